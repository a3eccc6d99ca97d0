"""`batuta make`, `retry`, `cancel` and `log`: processings, by whom they concern."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.lazy_commands import PRODUCTS
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, Operator, echo, print_json
from batuta.cli.requests.order_sets import (
    DryRun,
    How,
    OfClass,
    Since,
    States,
    Until,
    more_filters,
    order_set,
)
from batuta.cli.requests.selection import (
    ByObsId,
    ByProduct,
    ByProvider,
    Failed,
    Selection,
    Stale,
    Target,
    Yes,
    confirm,
)
from batuta.errors import BatutaError, ConfigurationError
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

ENDED: Final = ("succeeded", "failed", "cancelled")
FOLLOW_INTERVAL_S: Final = 0.3


Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; kept with the record, and told by batuta why.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for name, command in (("make", make), ("retry", retry), ("cancel", cancel), ("log", log)):
        app.command(name, rich_help_panel=PRODUCTS)(command)


def make(  # noqa: PLR0913  each is an option
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    provider: ByProvider = None,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    *,
    failed: Failed = False,
    stale: Stale = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Then all that follows from it, in order.")
    ] = False,
    work_class: Annotated[
        WorkClass | None,
        typer.Option("--class", help="How urgent it is, with all that follows from it."),
    ] = None,
    operator: Operator = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Request a product now, whether or not it was made before."""
    selection = Selection.of(
        target,
        failed=failed,
        stale="true" if stale else None,
        provider=provider,
        product=product,
        obs_id=obs_id,
    )
    with conductor_at(conductor_url, operator) as conductor:
        if len(selection.target) == 2:
            orders = [(selection.target[0], selection.target[1])]
        else:
            found = selection.processings(conductor)
            orders = list(dict.fromkeys((each["product"], each["obs_id"]) for each in found))
            confirm("make", [{**each} for each in _first_of(found)], yes=yes)
        if downstream:
            from batuta.cli.requests.remaking import remake_downstream  # noqa: PLC0415  for --help to be fast

            remake_downstream(conductor, orders, work_class, as_json=as_json)
            return
        answers = conductor.make_many(orders, work_class)
    subjects = [f"{product} of {obs_id}" for product, obs_id in orders]
    _report(subjects, answers, _requested, as_json=as_json)


def retry(  # noqa: PLR0913, PLR0917  each is an option
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    provider: ByProvider = None,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    state: States = None,
    work_class: OfClass = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    *,
    failed: Failed = False,
    dry_run: DryRun = False,
    operator: Operator = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Retry what failed, was cancelled or waits to be retried: now, with all attempts again."""
    more = more_filters(state, work_class, since, until)
    selection = Selection.of(
        target,
        failed=failed,
        more=bool(more),
        provider=provider,
        product=product,
        obs_id=obs_id,
    )
    with conductor_at(conductor_url, operator) as conductor:
        if not selection.target:
            how = How(yes=yes, dry_run=dry_run, as_json=as_json)
            order_set(conductor, "retry", selection, more, reason, how)
            return
        if dry_run:
            raise ConfigurationError("--dry-run with a processing (accepted: with filters)")
        found = selection.processings(conductor)
        answers = conductor.retry_many([each["id"] for each in found], reason)
    _report(_subjects(found), answers, lambda _: "retrying", as_json=as_json)


def cancel(  # noqa: PLR0913, PLR0917  each is an option
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    provider: ByProvider = None,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    state: States = None,
    work_class: OfClass = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    *,
    dry_run: DryRun = False,
    operator: Operator = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Stop processings that have not ended, at their providers too."""
    more = more_filters(state, work_class, since, until)
    selection = Selection.of(
        target,
        failed=False,
        more=bool(more),
        provider=provider,
        product=product,
        obs_id=obs_id,
    )
    with conductor_at(conductor_url, operator) as conductor:
        if not selection.target:
            how = How(yes=yes, dry_run=dry_run, as_json=as_json)
            order_set(conductor, "cancel", selection, more, reason, how)
            return
        if dry_run:
            raise ConfigurationError("--dry-run with a processing (accepted: with filters)")
        found = selection.processings(conductor)
        answers = conductor.cancel_many([each["id"] for each in found], reason)
    _report(_subjects(found), answers, _cancelled, as_json=as_json)


def log(
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the processing has ended.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(help="Only so many lines, the last ones.", min=1)
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(help="Only this attempt, where its pipeline keeps them apart.", min=1),
    ] = None,
    workers: Annotated[
        bool, typer.Option("--workers", help="The logs of the workers that computed its tiles.")
    ] = False,
) -> None:
    """Print the log of a processing: all attempts, all that its function printed."""
    if not target:
        raise ConfigurationError("no processing given (accepted: ID, or PRODUCT OBS_ID)")
    given = {"--workers": workers, "--follow": follow, "--attempt": attempt is not None}
    together = [option for option, is_given in given.items() if is_given]
    if len(together) > 1:
        raise ConfigurationError(f"{' with '.join(together)} (accepted: one of them)")
    from batuta.cli.requests.log_reader import LogReader  # noqa: PLC0415  for --help to be fast

    selection = Selection.of(target, failed=False)
    with conductor_at(conductor_url) as conductor:
        (processing,) = selection.processings(conductor)
        with closing(LogReader(conductor_url, processing, attempt)) as reader:
            if workers:
                reader.print_workers()
                return
            reader.print_new(tail)
            while follow and not _has_ended(conductor, processing):
                time.sleep(FOLLOW_INTERVAL_S)
                reader.print_new()
            if follow:
                reader.print_new()


def _has_ended(conductor: "ConductorClient", processing: dict[str, Any]) -> bool:
    return conductor.processing(processing["id"])["state"] in ENDED


def _first_of(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest processing of each product."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for each in found:
        newest.setdefault((each["product"], each["obs_id"]), each)
    return list(newest.values())


def _subjects(found: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{each['product']} of {each['obs_id']}" for each in found]


def _cancelled(processing: dict[str, Any]) -> str:
    state = str(processing["state"])
    return state if state == "cancelled" else f"not cancelled: it has {state} already"


def _requested(processing: dict[str, Any]) -> str:
    return f"processing {processing['id']} requested from {processing['provider']}"


def _report(
    subjects: Sequence[str],
    answers: Sequence[dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
) -> None:
    """Print what became of each; raise what is wrong with some."""
    if as_json:
        single = len(answers) == 1 and answers[0]["problem"] is None
        print_json(answers[0]["processing"] if single else answers)
    problems = []
    for subject, answer in zip(subjects, answers, strict=True):
        if answer["problem"] is not None:
            problems.append(BatutaError(f"{answer['problem']}"))
        elif not as_json:
            echo(f"{subject}: {describe(answer['processing'])}")
    if problems:
        raise BaseExceptionGroup("some were refused", problems)
