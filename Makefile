# Works with both make(1)s: bmake (FreeBSD) and GNU make.
#
#   make demo        a whole mesh on this machine, attacked and checked, in some two minutes (root)
#   make demo-services  real servers on three hosts, one of which is cut off, in some three minutes (root, Linux)
#   make six-hosts   the fleet of examples/six-hosts, founded from its files, with real servers (root, Debian 12)
#   make check       lint, types, import contracts and unit tests; under a minute on two cores
#   make test        check, the labs in namespaces, Garage, the kernel lab: under twenty minutes on two cores (root)
#   make test-long   tests that wait for minutes, and the properties with more examples: as long again (root)
#   make coverage    what the tests of make check do not reach: branches, by room
#   make golden      writes the transcripts of tests/golden anew: read the difference
#   make man         writes the manual pages of contrib/man anew, from the commands and the settings
#   make schemas     writes the JSON schemas of docs/schemas anew, from the types behind --json
#   make bench       the measurements
#   make bench-fleet HOSTS=400  what a simulated fleet of that size costs, and the loss of a region
#   make bench-faults  what every fault costs in packets, into docs/faults.md (root)
#   make bench-paths  a path that is cut, beside babeld, and what a relay carries (root, babeld)
#   make relay-lab  all pairs of six hosts cut one after the other, under traffic (root, ten minutes)
#   make mutation    switches each defence off, one at a time: its tests must notice
#   make lab         the demo's mesh, left standing to play with (root)
#   make lab-kernel  the tests on a real Linux kernel's WireGuard, in a virtual machine
#   make package     what servers install, in dist/: a wheel, and a .deb for the Debian that this runs on
#   make garage      builds the Garage that the store tests use

.PHONY: all setup static check test test-long coverage demo demo-services six-hosts bench bench-fleet bench-faults bench-paths relay-lab mutation lab lab-kernel garage golden man schemas package clean

all: check

setup:
	@sh tools/setup.sh

static: setup
	@sh tools/static.sh

check: setup
	@sh tools/check.sh

test: static
	sh tools/test.sh

test-long: setup
	sh tools/test.sh long

coverage: setup
	sh tools/coverage.sh

demo: setup
	.venv/bin/wgctl demo --check

demo-services: setup
	sh tools/setup.sh demo-services
	.venv/bin/wgctl demo --services --check

six-hosts: setup
	sh tools/setup.sh services
	sh tools/setup.sh garage
	sh tools/garage.sh build
	.venv/bin/python -m pytest -q -s tests/lab/test_six_hosts.py

bench: setup
	.venv/bin/python -m bench.run

bench-fleet: setup
	nice -n 19 .venv/bin/python -m bench.bench_simulation $(or $(HOSTS),200)

bench-faults: setup
	.venv/bin/python -m bench.bench_faults

bench-paths: setup
	.venv/bin/python -m bench.run relay paths

relay-lab: setup
	.venv/bin/python -m bench.run relay_pairs

golden: setup
	GOLDEN=write .venv/bin/python -m pytest -q tests/golden -k transcript_of_a_case

man: setup
	.venv/bin/python tools/manpages.py

schemas: setup
	.venv/bin/python tools/schemas.py

mutation: setup
	.venv/bin/python tools/mutation.py

lab: setup
	.venv/bin/wgctl demo --keep

lab-kernel: setup
	sh tools/kernel-lab.sh

garage: setup
	sh tools/setup.sh garage
	sh tools/garage.sh build

package: setup
	sh tools/package.sh

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
