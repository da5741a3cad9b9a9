# Both main targets do their own set-up: make story, make test.
PYTHON ?= python3
VENV   ?= .venv
EPOCHS ?=
ifndef RUN
RUN    := runs/story-$(shell date +%Y%m%d-%H%M%S)
endif
NOTEBOOKS ?= $(wildcard notebooks/[0-9][0-9]_*.ipynb)
HOSTED ?= ../shared/hosted/colab-gpu.txt
py     := $(VENV)/bin/python
ready  := $(VENV)/.ready

.PHONY: story test lint format notebooks reports bench demo address test-hosted setup clean

story: setup
	$(py) -m storylib finetune emoji --out $(RUN) $(if $(EPOCHS),--epochs $(EPOCHS))
	$(py) -m storylib evaluate emoji --adapter $(RUN)/adapter --out $(RUN)/scores

test: setup
	$(py) -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Executes the lessons and saves them with their outputs and figures; one alone: make notebooks NOTEBOOKS=notebooks/01_dataset.ipynb
notebooks: setup
	$(py) -m storylib.reports run $(NOTEBOOKS)

# The lessons as pages that need nothing else, to hand out or to print.
reports: setup
	$(py) -m storylib.reports html --out reports $(NOTEBOOKS)

# Ours beside what one would run instead, as a table. SIZE=gpu for a GPU, NAMES=generation for one of them.
bench: setup
	$(py) -m benchmarks $(NAMES) --size $(or $(SIZE),laptop)

# The emoji picker as a page of its own.
demo: setup
	$(py) -m storylib.demo notebooks/04_generation.ipynb

# Writes the address in pyproject.toml into badges and set-up cells.
address: setup
	$(py) -m storylib.address

# Executes the lessons beside the packages of a Colab runtime, on a CPU. HOSTED is what `pip freeze` says there.
test-hosted: setup
	$(py) tests/hosted.py $(HOSTED) .venv-hosted $(NOTEBOOKS)

setup: $(ready)

# Made once, and again from nothing when what is required changes.
$(ready): requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("storylib needs Python 3.10 to 3.13, this is %d.%d; try: make PYTHON=python3.12 story" % v)'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make virtual environments here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(py) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch $(TORCH_INDEX)
	$(py) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-hosted .pytest_cache .ruff_cache
