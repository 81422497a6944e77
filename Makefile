# Two commands do everything, set-up included:  make demo   and   make test
# Everything downloaded or built is kept under $TRADEWIND_CACHE (default ~/.cache/tradewind), outside this tree.

SHELL := /bin/bash
export TRADEWIND_CACHE ?= $(HOME)/.cache/tradewind
export CARGO_TARGET_DIR ?= $(TRADEWIND_CACHE)/target
KEEP ?=

.PHONY: help demo test nightly bench break lint clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: ## Render a picture on three provider clusters, verified and paid; KEEP=1 leaves everything up
	@deploy/local/stages demo $(if $(KEEP),--keep)

test: ## Every test that a change must pass, with each stage's time (15 minutes warm, 45 cold)
	@deploy/local/stages test

nightly: ## The longer proofs: every other row of the protocol, races, outages, deep invariants
	@deploy/local/stages nightly

bench: ## Figures, each beside a named baseline measured in the same run
	@deploy/local/stages bench

break: ## INV=n: break invariant n in a copy of the tree; exactly the tests named for it must fail
	@deploy/local/break "$(INV)"

lint: ## Format, lints and the crates' arrows; no cluster is raised
	@deploy/local/stages lint

clean: ## Remove what was cached and built
	rm -rf "$(TRADEWIND_CACHE)"
