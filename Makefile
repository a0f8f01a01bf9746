# make demo        first results, on the small models carried here: text, then a picture
# make test        make lint, then the tests
# make lint        faults, layout and types of all Python; generated documents; the layout of viewer/, where there is Node
# make viewer      build visualize_results.html from viewer/ (needs Node 18 or newer; its users need none)
# make screenshot  the README's picture, of the demo (needs Chromium)
# make guide       write the table of settings in BATCH_MODE_GUIDE.md and the schemas of the batch files again
# make clean       remove the virtual environment, viewer/node_modules and what the demo wrote
#
# All but viewer and clean make a virtual environment in .venv and install requirements.txt into it, if that is still to be done.
# Another Python: make demo PYTHON=python3.12

PYTHON = python3
RUN = .venv/bin/python
INSTALLED = .venv/requirements-installed
MODULES = viewer/node_modules/.package-lock.json

.PHONY: help demo test lint viewer-lint viewer screenshot guide clean

help:
	@sed -n 's/^# \(make [a-z]* .*\)/\1/p' Makefile

# The demo's own folder: its results are measured anew each time, and no other run is replaced.
demo: $(INSTALLED)
	$(RUN) mask_impact_analysis.py --config demo/text/demo_prompts.yaml --overwrite
	$(RUN) mask_impact_vl.py --config demo/vision/demo_pictures.yaml --overwrite

# A fixed seed of Python's hashes, so that every worker collects the same tests in the same order.
test: lint
	PYTHONHASHSEED=0 $(RUN) -m pytest -rs --no-fold-skipped --numprocesses=auto --dist=worksteal

lint: $(INSTALLED)
	$(RUN) -m ruff check --quiet
	$(RUN) -m ruff format --check --quiet
	$(RUN) -m mypy
	$(RUN) -m mask_impact.settings.guide --check
	$(RUN) -m mask_impact.settings.json_schema --check
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory viewer-lint; else echo "no Node: viewer/ is not checked"; fi

viewer-lint: $(MODULES)
	cd viewer && npm run --silent lint

viewer: $(MODULES)
	cd viewer && node build.mjs

screenshot: demo
	$(RUN) tests/support/browser.py screenshot output/demo/coin_results.csv output/demo/coin_run.json viewer/screenshot.png

guide: $(INSTALLED)
	$(RUN) -m mask_impact.settings.guide
	$(RUN) -m mask_impact.settings.json_schema

# Written last, so that an installation that broke off is begun again.
$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12" >&2; exit 1; }
	$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	touch $(INSTALLED)

# npm writes this file last. No package here needs its install script.
$(MODULES): viewer/package-lock.json
	cd viewer && npm ci --ignore-scripts
	touch $(MODULES)

clean:
	rm -rf .venv .pytest_cache .hypothesis viewer/node_modules output/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
