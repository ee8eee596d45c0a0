"""python -m chaos: faults by plan against both daemons, judged by a referee that shares no code with them.

The seed makes plan and transactions: the same seed strikes the same way again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

from chaos import mariadb, plan, sabotage
from chaos.match import Match, Outcome
from chaos.site import Site
from dev import session
from dev.postgres import Flavour
from dev.process import ServerError
from dev.script import ROOT

SHOWN = 6  # findings of a kind that are quoted


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 no promise was broken (with --sabotage: one was), 1 otherwise, 2 the command line."""
    options = _parser().parse_args(arguments)
    if options.source in mariadb.SERVERS:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        more = [] if options.seed is None else ["--seed", str(options.seed)]
        return mariadb.main(["--source", options.source, "--faults", str(options.rounds * options.strikes), *more])
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    if options.plan:
        for number in range(1, options.rounds + 1):
            _show_plan(plan.make(seed, number, options.strikes, options.seconds, options.only))
        return 0
    _say(f"seed {seed}, {options.rounds} rounds of {options.strikes} faults, commit {_commit()}")
    launcher = ("-m", "chaos.sabotage", options.sabotage) if options.sabotage else ()
    run = Run(seed, options)
    try:
        with _site(launcher, options) as site:
            run.play(site)
    except (ServerError, AssertionError) as error:
        _say(f"chaos FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; what was judged until now:")
    found = run.tell()
    if options.sabotage:
        _say(f"sabotage {options.sabotage} " + ("was caught" if found else "WAS NOT CAUGHT"))
        return 0 if found else 1
    return 1 if found else 0


class Run:
    """Rounds, and what they add up to."""

    def __init__(self, seed: int, options: argparse.Namespace) -> None:
        self._seed = seed
        self._options = options
        self._began = time.monotonic()
        self._rounds = 0
        self._struck: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._duplicates: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()

    def play(self, site: Site) -> None:
        """All rounds, until one has found something."""
        match = Match(site, self._seed)
        for number in range(self._options.first, self._options.first + self._options.rounds):
            made = plan.make(self._seed, number, self._options.strikes, self._options.seconds, self._options.only)
            outcome = match.play(made)
            self._add(outcome)
            self._tell_round(number, outcome)
            if outcome.verdict.problems:
                _show_plan(made)
                where = session.RUN / f"chaos-{self._seed}-{number}"
                self._keep(site, outcome, where.name)
                _say(f"logs and findings: {where}; again: python -m chaos --seed {self._seed} --first {number}")
                if not self._options.go_on:
                    return

    def _keep(self, site: Site, outcome: Outcome, name: str) -> None:
        where = session.RUN / name
        site.keep_logs(where)
        lines = [f"{kind}: {text}" for kind, found in outcome.verdict.problems.items() for text in found]
        (where / "findings.txt").write_text("\n".join(lines) + "\n")
        (where / "history.txt").write_text("\n".join(outcome.history) + "\n")

    def _add(self, outcome: Outcome) -> None:
        verdict = outcome.verdict
        self._rounds += 1
        self._struck += outcome.struck
        self._written += outcome.written
        self._duplicates += verdict.duplicates
        self._counts.update(
            committed=verdict.committed, delivered=verdict.delivered, late=verdict.late, parked_keys=outcome.parked
        )
        self._problems.update({kind: len(found) for kind, found in verdict.problems.items()})

    def _tell_round(self, number: int, outcome: Outcome) -> None:
        verdict = outcome.verdict
        again = sum(verdict.duplicates.values())
        _say(
            f"round {number}: {sum(outcome.struck.values())} faults, {verdict.committed} committed,"
            f" {verdict.delivered} delivered, {again} again, {verdict.late} late, {outcome.parked} keys parked,"
            f" quiet after {outcome.seconds_to_quiet:.1f} s, {outcome.seconds:.1f} s in all"
            f"; {sum(self._struck.values())} faults so far"
        )
        for kind, found in verdict.problems.items():
            _say(f"  {kind.upper()}: {len(found)}")
            for text in found[:SHOWN]:
                _say(f"    {text[:400]}")

    def tell(self) -> bool:
        """The end: counts as JSON, and one line. True if a promise was broken."""
        totals = {
            "seed": self._seed,
            "commit": _commit(),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "rounds": self._rounds,
            "minutes": round((time.monotonic() - self._began) / 60, 1),
            "faults": sum(self._struck.values()),
            **self._counts,
            "again": sum(self._duplicates.values()),
            "problems": self._problems,
            "again_by_cause": dict(self._duplicates.most_common()),
            "transactions": dict(self._written.most_common()),
            "faults_by_kind": dict(sorted(self._struck.items())),
        }
        print(json.dumps(totals, indent=1))
        kinds = ("lost", "invented", "altered", "reordered", "unexplained", "stuck")
        said = " ".join(f"{kind}={self._problems[kind]}" for kind in kinds)
        word = "FAILED" if self._problems else "ok"
        _say(f"chaos {word}: seed={self._seed} faults={totals['faults']} committed={self._counts['committed']} {said}")
        return bool(self._problems)


def _site(launcher: Sequence[str], options: argparse.Namespace) -> Site:
    flavour: Flavour = "system" if os.environ.get("PG") == "system" else "embedded"
    return Site(flavour, launcher, by_functions=options.functions)


def _show_plan(made: plan.Round) -> None:
    _say(f"plan of round {made.number}, NOTIFY {'on' if made.notify else 'off'}:")
    for strike in made.strikes:
        _say(f"  {strike}")


def _say(text: str) -> None:
    print(text, flush=True)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: %(default)s, about 10 minutes")
    parser.add_argument(
        "--source", choices=("postgres", *mariadb.SERVERS), default="postgres",
        help="mariadb, mysql: rounds times strikes faults against the listener alone, one after another",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="S", help="default: a random one; it is printed")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="number of the first round")
    parser.add_argument("--strikes", type=int, default=plan.STRIKES, metavar="N", help="faults a round")
    parser.add_argument("--seconds", type=float, default=plan.ROUND_SECONDS, metavar="S", help="in which they begin")
    parser.add_argument(
        "--only", choices=[kind.name for kind in plan.KINDS], default="", help="faults of one kind alone"
    )
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first finding")
    parser.add_argument("--plan", action="store_true", help="only show what would strike")
    parser.add_argument(
        "--functions", action="store_true", help="events go to Python functions, with an inbox (TARGET=python)"
    )
    parser.add_argument(
        "--sabotage", choices=sabotage.NAMES, help="break the relay on purpose; exit status 0 if that is noticed"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
