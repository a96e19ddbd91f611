# Every command a newcomer needs; `make` lists them. Environments follow their locks: .venv serves, .venv-dev does the rest.

PORT ?= 8000
HOST ?= 127.0.0.1

SERVING := .venv
DEV := .venv-dev
PEERS := .venv-bench
FER := .venv-fer
FUZZ := .venv-fuzz
BENTO := mood_estimator

# BentoML's stores stay in the checkout, so that trying it leaves nothing in a home directory.
export BENTOML_HOME ?= $(CURDIR)/.bentoml
# No usage statistics to anybody.
export BENTOML_DO_NOT_TRACK := True
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
export ORT_DISABLE_TELEMETRY := 1

# The locks are complete, so that nothing is left to resolve; hashes say that the files are those that were tested.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

# PYTHON or, without it, the newest of these that starts, is in range and can make environments.
VERSIONS := 3.13 3.12 3.11
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
in_range = $(if $(filter $(VERSIONS),$(call version,$(1))),$(1))
has_venv = $(shell $(1) -c 'import ensurepip, venv' 2>/dev/null && echo $(1))
pythons = $(strip $(foreach name,$(or $(PYTHON),$(VERSIONS:%=python%) python3),$(call in_range,$(name))))
python = $(or $(firstword $(foreach name,$(pythons),$(call has_venv,$(name)))),$(error $(if $(pythons),$(NO_VENV),$(NO_PYTHON))))

# An environment is made anew if its Python no longer starts, or if PYTHON is of another version.
same_python = $(if $(filter $(if $(PYTHON),$(call version,$(PYTHON)),$(VERSIONS)),$(call version,$(1)/bin/python)),,FORCE)

define NO_PYTHON
MEAA needs Python 3.11, 3.12 or 3.13$(if $(PYTHON),; PYTHON=$(PYTHON) is another version or does not start). To get one:
  Debian 12 and 13, Ubuntu 24.04   apt install python3 python3-venv
  Fedora                           dnf install python3.13
  macOS                            brew install python@3.13
$(WITH_UV)
endef

define NO_VENV
$(firstword $(pythons)) lacks the module that makes environments. To get it:
  Debian, Ubuntu                   apt install python$(call version,$(firstword $(pythons)))-venv
$(WITH_UV)
endef

define WITH_UV
  any other, with uv               uv venv --managed-python --python 3.13 .venv-python
                                   export PYTHON=.venv-python/bin/python
Then run make again
endef

.DEFAULT_GOAL := help
.PHONY: help serve test test-fast lint docs data train compare plots mlflow bento containerize drift monitor-ui peers bench \
    soak fuzz lock clean FORCE

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A fifth less on disk: serving installs and tests nothing, and its first start writes the bytecode that it needs.
$(SERVING)/.installed: requirements-serving.lock $(call same_python,$(SERVING))
	@echo "Setting up the serving environment in $(SERVING) ..."
	@$(python) -m venv --clear $(SERVING)
	@$(SERVING)/bin/python $(INSTALL) --no-compile -r $<
	@$(SERVING)/bin/python -m pip uninstall -qq --yes pip setuptools
	@find $(SERVING)/lib -type d -name tests -prune -exec rm -r {} +
	@touch $@

$(DEV)/.installed: requirements.lock $(call same_python,$(DEV))
	@echo "Setting up the development environment in $(DEV) (TensorFlow, MLflow, DVC, Evidently: some minutes) ..."
	@$(python) -m venv --clear $(DEV)
	@$(DEV)/bin/python $(INSTALL) -r $<
	@touch $@

$(PEERS)/.installed: requirements-bench.txt $(DEV)/.installed
	@rm -rf $(PEERS)
	@$(DEV)/bin/python $(INSTALL) --target $(PEERS) -r $<
	@touch $@

$(FER)/.installed: requirements-fer.txt $(DEV)/.installed
	@rm -rf $(FER)
	@$(DEV)/bin/python $(INSTALL) --target $(FER) -r $<
	@touch $@

# Atheris has packages for Linux on x86-64; elsewhere the directory stays empty.
$(FUZZ)/.installed: requirements-fuzz.txt $(DEV)/.installed
	@rm -rf $(FUZZ)
	@mkdir $(FUZZ)
	@$(DEV)/bin/python $(INSTALL) --target $(FUZZ) -r $<
	@touch $@

# Without bytecode every start would compile BentoML anew, for seconds.
serve: export PYTHONDONTWRITEBYTECODE :=
serve: $(SERVING)/.installed  ## serve the released model on port 8000 (PORT=8011, HOST=0.0.0.0)
	@echo "Serving at http://$(HOST):$(PORT) in a few seconds; the API page is there. In another terminal:"
	@echo "  curl -F image=@photo.jpg http://$(HOST):$(PORT)/upload-meaa-image"
	@exec $(SERVING)/bin/bentoml serve service.service:MoodEstimation --host $(HOST) --port $(PORT)

test: lint $(SERVING)/.installed  ## lint, check types, run the tests
	@[ -d data ] || $(DEV)/bin/dvc pull --quiet data 2>/dev/null || \
	    echo "The dataset cannot be fetched here: the tests that need it are skipped, and say so."
	$(DEV)/bin/python -m pytest

test-fast: $(DEV)/.installed $(SERVING)/.installed  ## the tests that are not marked slow (two minutes)
	$(DEV)/bin/python -m pytest -m "not slow"

lint: $(DEV)/.installed  ## Ruff and mypy
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

docs: $(DEV)/.installed  ## the guides as pages in site/
	NO_MKDOCS_2_WARNING=1 $(DEV)/bin/mkdocs build --strict
	@echo "Open site/index.html. Renewed while you write: $(DEV)/bin/mkdocs serve -a 127.0.0.1:8002"

data: $(DEV)/.installed  ## fetch the dataset (dvc pull)
	$(DEV)/bin/dvc pull

# DVC runs the stages' commands by name, so that the environment must come first on the path.
train: $(DEV)/.installed  ## say what it costs, then run what has changed for the candidates, up to the bundle (dvc repro)
	@$(DEV)/bin/python -m pipelines.planning
	PATH="$(CURDIR)/$(DEV)/bin:$$PATH" dvc repro

compare: $(DEV)/.installed  ## the same for all models of params.yaml, then compare them by the gate's rule
	@$(DEV)/bin/python -m pipelines.planning models/dvc.yaml
	PATH="$(CURDIR)/$(DEV)/bin:$$PATH" dvc repro models/dvc.yaml
	@$(DEV)/bin/python -m pipelines.releases.compare

plots: $(DEV)/.installed  ## curves, confusion and reliability of all candidates as one page (dvc plots show)
	$(DEV)/bin/python -m pipelines.evaluation.plots_page

# A server has the pages itself; any other store gets them here.
MLFLOW_PORT ?= 5000
mlflow: $(DEV)/.installed  ## runs, models and the registry at http://127.0.0.1:5000 (MLFLOW_PORT=5001)
	@$(DEV)/bin/python -m pipelines.releases.restore_runs --ui http://127.0.0.1:$(MLFLOW_PORT)
	@case "$$MLFLOW_TRACKING_URI" in \
	    http://*|https://*) ;; \
	    *) exec $(DEV)/bin/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" \
	        --host 127.0.0.1 --port $(MLFLOW_PORT) ;; \
	esac

bento: $(DEV)/.installed  ## pack service, model and locked dependencies (bentoml build)
	$(DEV)/bin/python -m pipelines.export.to_bento
	$(DEV)/bin/bentoml build

containerize: bento  ## make a container image of the bento, with the engine found here (ENGINE=podman)
	@engine="$(ENGINE)"; \
	for candidate in docker podman nerdctl buildah; do \
	    [ -n "$$engine" ] || ! command -v $$candidate >/dev/null || engine=$$candidate; \
	done; \
	[ -n "$$engine" ] || { echo "No container engine found: install docker, podman, nerdctl or buildah." >&2; exit 1; }; \
	echo "Building with $$engine ..."; \
	$(DEV)/bin/bentoml containerize $(BENTO):latest --backend $$engine --image-tag $(BENTO):latest

# Ends with 0 or 2, as the command does.
drift: $(DEV)/.installed  ## are live predictions still like the reference? (DRIFT="--since 7d")
	@$(DEV)/bin/python -m monitoring.drift $(DRIFT)

monitor-ui: $(DEV)/.installed  ## trends of the live predictions at http://127.0.0.1:8001
	$(DEV)/bin/evidently ui --workspace live/workspace --host 127.0.0.1 --port 8001

peers: $(PEERS)/.installed  ## the released model beside that of the package fer, on the same images
	PYTHONPATH=$(PEERS) $(DEV)/bin/python -m benchmarks.compare_baselines

bench: $(PEERS)/.installed $(FER)/.installed $(SERVING)/.installed  ## how fast detection and service are, beside peers and targets
	$(DEV)/bin/python -m benchmarks.speed.bench

soak: $(DEV)/.installed $(FUZZ)/.installed  ## what the service withstands: attacks, overload, faults, memory (some 20 minutes)
	PYTHONPATH=$(FUZZ) $(DEV)/bin/python -m benchmarks.robustness.soak

MINUTES ?= 30
fuzz: $(DEV)/.installed $(FUZZ)/.installed  ## look for inputs that break something, CPU minutes of each target (MINUTES=30)
	PYTHONPATH=$(FUZZ) $(DEV)/bin/python -m benchmarks.robustness.fuzz guided --minutes $(MINUTES)

# Locked versions stay unless pyproject.toml rules them out; UPGRADE=--upgrade takes the newest.
COMPILE = $(DEV)/bin/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-emit-index-url
lock: $(DEV)/.installed  ## resolve the dependencies anew, after a change in pyproject.toml
	$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock pyproject.toml -o requirements-serving.lock
	echo 'fer>=25.10' | $(COMPILE) --no-deps - -o requirements-bench.txt
	echo 'atheris>=3,<3.1; sys_platform == "linux" and platform_machine == "x86_64"' | \
	    $(COMPILE) --no-deps - -o requirements-fuzz.txt
	printf 'setuptools<81\nopencv-contrib-python-headless<5\nfacenet-pytorch>=2.6\n' | \
	    $(COMPILE) --no-deps - -o requirements-fer.txt

clean:  ## remove the environments, BentoML's stores, pages and caches
	rm -rf $(SERVING) $(DEV) $(PEERS) $(FER) $(FUZZ) site dvc_plots .bentoml .hypothesis
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path "./.git/*" -prune -exec rm -rf {} +
