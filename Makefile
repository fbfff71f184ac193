# The work is done by infra/dev/*; `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run up serve demo test test-pg15 lint bench memory chaos down reset

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## fetch, build, start everything, run the demo, stay up until Ctrl-C (STAY=0: end after it)
	@infra/dev/run

up: ## start PostgreSQL, Kafka and ClickHouse (WEFT_STACK=auto|native|docker)
	@infra/dev/up

serve: ## start what is missing of stack, simulator and weft; return when weft is ready
	@infra/dev/serve

demo: ## run the demo against what `make serve` serves (DEMO="--messages 2000": other arguments)
	@infra/dev/demo

test: ## all tests on the real stack
	@infra/dev/test

test-pg15: ## the event log's tests on PostgreSQL 15
	@infra/dev/test --pg15

lint: ## format, clippy, generated schemas, scripts
	@infra/dev/lint

bench: ## the benchmarks, release build
	@infra/dev/bench

memory: ## each role's memory under ten minutes of load, release build (MEMORY="--minutes 5": other arguments)
	@infra/dev/memory

chaos: ## kill, stop and pause everything under load, and check every promise (CHAOS="--seed 7 --rounds 20": other arguments)
	@infra/dev/chaos

down: ## stop what this checkout started
	@infra/dev/down

reset: ## stop it and delete its data
	@infra/dev/reset
