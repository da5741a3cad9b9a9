# Both main targets do their own set-up: make story, make test.
PYTHON ?= python3
VENV   ?= .venv
EPOCHS ?=
ifndef RUN
RUN    := runs/story-$(shell date +%Y%m%d-%H%M%S)
endif
py     := $(VENV)/bin/python
ready  := $(VENV)/.ready

.PHONY: story test lint format setup clean

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
	rm -rf $(VENV) .pytest_cache .ruff_cache
