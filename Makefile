# make train   set everything up and run the embedded default recipe
# make test    set everything up and run the tests
# make check   format, lint, types, tests: what continuous integration runs
# make chaos, make chaos-fast, make soak   break runs on purpose, and compare with runs that nothing broke
# make bench   the measurements of docs/benchmarks.md
# make trl-venv  TRL in an environment of its own, for the comparisons with it
# make gpu-lock   resolve requirements/gpu.txt without installing it
# make locks   compile requirements/*.txt from the direct dependencies in requirements/*.in
# make test-isa, make mutants   do the tests hold on other processors, and do they notice faults
#
# STACK=cpu|gpu chooses the dependencies; a machine with an NVIDIA driver gets gpu.
# RECIPE=name ARGS="key=value ..." choose and change what is trained.
# WORKERS=n is the number of processes that share the tests, two cores and up to 8 GiB for each pair of them.

STACK ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
PYTHON ?= python3.11
VENV ?= .venv
RECIPE ?= tiny
ARGS ?=
WORKERS ?= 2

PY := $(VENV)/bin/python
LOCK := $(VENV)/.installed-$(STACK)-$(shell cat requirements/$(STACK).txt requirements/dev.txt setup.cfg | sha256sum | cut -c1-16)
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
PIP_FLAGS := $(if $(filter cpu,$(STACK)),--no-deps,)

.PHONY: train test check chaos chaos-fast soak format bench venv trl-venv clean locks gpu-lock test-isa mutants

train: venv
	$(PY) -m grpo.train --config-name $(RECIPE) $(ARGS)

# A file of tests is the unit of work, so that it starts its engines once. tests/conftest.py has the order.
TESTS := HF_HUB_OFFLINE=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: venv
	$(TESTS)

# Import contracts and the state of the locks are tests: tests/test_contracts.py, tests/test_locks.py.
check: venv
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(TESTS)

# Other instruction sets stand for other processors: a tolerance that only fits this one fails here.
ISA_TESTS := tests/algorithm tests/learner tests/miniature tests/weights
test-isa: venv
	HF_HUB_OFFLINE=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(PY) -m pytest $(ISA_TESTS)
	HF_HUB_OFFLINE=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=COMPATIBLE $(PY) -m pytest $(ISA_TESTS)

# Plants one fault at a time in a copy of the tree and sees whether the tests notice.
mutants: venv
	HF_HUB_OFFLINE=1 $(PY) -m benchmarks.mutants

# Versions that a lock has already stay. Indexes and find-links are those that uv is set up with (UV_EXTRA_INDEX_URL,
# UV_FIND_LINKS); none is written into a lock. Needs the network, unlike everything else that CI runs.
UV_COMPILE := $(VENV)/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	--index-strategy unsafe-best-match --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--no-emit-package setuptools
NO_VISION := --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec
locks: venv
	@# uv overwrites a file's comments, so the head is kept by hand. A folder of CPU wheels must not reach the gpu lock.
	@for lock in cpu dev gpu; do \
		grep '^#' requirements/$$lock.txt > requirements/$$lock.head; \
		[ $$lock = dev ] && within="-c requirements/cpu.txt" || within=""; \
		[ $$lock = gpu ] && left_out="" || left_out="$(NO_VISION)"; \
		[ $$lock = gpu ] && unset UV_FIND_LINKS; \
		$(UV_COMPILE) $$left_out $$within requirements/$$lock.in -o requirements/$$lock.txt >/dev/null || exit 1; \
		cat requirements/$$lock.head requirements/$$lock.txt > requirements/$$lock.new; \
		mv requirements/$$lock.new requirements/$$lock.txt; rm requirements/$$lock.head; \
	done

# Needs two quiet cores: deadlines of hanging processes are part of it.
chaos: venv
	HF_HUB_OFFLINE=1 $(PY) -m benchmarks.chaos
chaos-fast: venv
	HF_HUB_OFFLINE=1 $(PY) -m benchmarks.chaos --fast
soak: venv
	HF_HUB_OFFLINE=1 $(PY) -m benchmarks.soak

# The lock that no test can install: each pin exists, they fit each other, and nothing is missing. It downloads metadata
# only, in seconds.
gpu-lock: venv
	@grep -v '^#' requirements/gpu.txt > $(VENV)/.gpu-lock
	@env -u UV_FIND_LINKS $(UV_COMPILE) requirements/gpu.txt | diff -u $(VENV)/.gpu-lock - ; status=$$?; \
		[ $$status = 0 ] || { echo "requirements/gpu.txt: does not resolve to itself; run make locks"; exit 1; }

format: venv
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: venv
	$(PY) -m benchmarks.logprob_gap
	$(PY) -m benchmarks.overhead
	$(PY) -m benchmarks.seeds
	$(PY) -m benchmarks.control
	$(PY) -m benchmarks.grading
	$(PY) -m benchmarks.oracle
	$(PY) -m benchmarks.plan

venv: $(LOCK)

$(LOCK):
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11, or set PYTHON=path"; exit 78; }
	@echo "Installing the $(STACK) stack into $(VENV): about three minutes, once."
	@# Packages of the other stack may satisfy the pins of this one, and must not stay.
	@ls $(VENV)/.installed-* 2>/dev/null | grep -qv -- '-$(STACK)-' && rm -rf $(VENV) || true
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(PIP_FLAGS) -r requirements/$(STACK).txt
	$(PIP) --no-deps -r requirements/dev.txt
	$(PIP) --no-deps --editable .
	@# Byte code on all cores: pip makes it on one. Files for other Pythons do not compile and are not needed.
	@$(PY) -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@rm -f $(VENV)/.installed-*
	@touch $@

# TRL, for benchmarks.vs_trl, benchmarks.numerics and conformance. torch alone first: the others would take any build.
trl-venv: .venv-trl/.installed-1.16.0
.venv-trl/.installed-1.16.0:
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check transformers==5.19.0 trl==1.16.0
	@touch $@

clean:
	rm -rf $(VENV) .venv-trl .cache .pytest_cache .mypy_cache .ruff_cache
