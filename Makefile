# Works with both make(1)s: bmake (FreeBSD) and GNU make.
#
#   make demo        a whole mesh on this machine, checked, in under a minute (root)
#   make demo-services  real servers on three hosts, one of which is cut off, in some three minutes (root, Linux)
#   make check       lint, types, import contracts and unit tests; under two minutes on two cores
#   make test        everything: check, the labs in namespaces, Garage, the kernel lab (root)
#   make coverage    what the tests of make check, and the slow ones, do not reach: branches, by room
#   make golden      writes the transcripts of tests/golden anew: read the difference
#   make bench       the measurements
#   make bench-faults  what every fault costs in packets, into docs/faults.md (root)
#   make mutation    switches each defence off, one at a time: its tests must notice
#   make lab         the demo's mesh, left standing to play with (root)
#   make lab-kernel  the tests on a real Linux kernel's WireGuard, in a virtual machine
#   make garage      builds the Garage that the store tests use

.PHONY: all setup static check test coverage demo demo-services bench bench-faults mutation lab lab-kernel garage golden clean

all: check

setup:
	@sh tools/setup.sh

static: setup
	@sh tools/static.sh

check: setup
	@sh tools/check.sh

test: static
	sh tools/test.sh

coverage: setup
	sh tools/coverage.sh

demo: setup
	.venv/bin/wgctl demo --check

demo-services: setup
	sh tools/setup.sh services
	.venv/bin/wgctl demo --services --check

bench: setup
	.venv/bin/python -m bench.run

bench-faults: setup
	.venv/bin/python -m bench.bench_faults

golden: setup
	GOLDEN=write .venv/bin/python -m pytest -q tests/golden -k transcript_of_a_case

mutation: setup
	.venv/bin/python tools/mutation.py

lab: setup
	.venv/bin/wgctl demo --keep

lab-kernel: setup
	sh tools/kernel-lab.sh

garage: setup
	sh tools/setup.sh garage
	sh tools/garage.sh build

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
