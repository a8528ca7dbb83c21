# make demo | check | test | bench | image | cluster | ipvs | e2e | e2e-ipvs. The first use sets up .venv and the Debian packages that are missing (.ci/setup).
SHELL := /bin/bash
export PYTHONSAFEPATH := 1
PY := .venv/bin/python
FAST := tests/unit tests/property tests/golden tests/docs

.PHONY: demo check static test bench image cluster ipvs e2e e2e-ipvs format others clean

.venv/ready: setup.cfg .ci/setup
	.ci/setup
	touch $@

demo: .venv/ready
	$(PY) -m kube_router.lab.demo

format: .venv/ready
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

check: static
	$(PY) -m pytest -q -n auto $(FAST)

static: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(PY) -m mypy -p kube_router
	$(PY) -m mypy tests examples benchmarks
	.venv/bin/lint-imports

# Everything: the static checks, the fast tests on every other Python that is here, then the whole suite with namespaces,
# the VM, a real control plane and real clusters. What of Kubernetes has to be built is built beside the checks; if it
# cannot be, the tests that need it say so. Not the cluster in the VM: `make ipvs`. The last line is pytest's.
test: .venv/ready
	.ci/go
	(cd tests && PYTHONPATH=. nice -n 15 ../$(PY) -m harness.gomodules >/dev/null) & $(MAKE) static others && wait
	$(PY) -m pytest tests --ignore=tests/cluster/test_vm_ipvs.py

# A real cluster whose Services our proxy serves: its nodes are in the VM, where this kernel has no IPVS.
ipvs: .venv/ready
	.ci/go
	$(PY) -m pytest tests/cluster/test_vm_ipvs.py

others: .venv/ready
	.ci/other-pythons -n auto $(FAST)

bench: .venv/ready
	PYTHONPATH=.:tests $(PY) -m benchmarks.run

# The agent's image, as the OCI archive dist/kube-router-VERSION.oci.tar.
image: .venv/ready
	deploy/image/build

# A Kubernetes cluster with our network on this machine, until Ctrl-C.
cluster: .venv/ready
	.ci/go
	cd tests && PYTHONPATH=. ../$(PY) -m cluster

# Kubernetes' own end-to-end suite against such a cluster; writes docs/conformance.md.
e2e: .venv/ready
	.ci/go
	cd tests && PYTHONPATH=. ../$(PY) -m e2e

# Specs of Services and of SCTP against our proxy, in the VM: half an hour.
e2e-ipvs: .venv/ready
	.ci/go
	cd tests && PYTHONPATH=. ../$(PY) -m e2e.ipvs

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
