#!/bin/sh
# The mesh itself, once. STORE: where the registry is kept (docs/garage.md).
set -eu
wgctl init --name reference --range 10.99.0.0/16 --store "${STORE:?where the registry is kept expected}"
