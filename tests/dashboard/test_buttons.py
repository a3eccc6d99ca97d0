"""Each button of each page, pressed in a real browser: what it says, and what it does."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from batuta.cli.conductor_client import ConductorClient
from tests.conductor.graphs import graph_of
from tests.conductor.stage import ANSWER_S, get, states
from tests.dashboard.conftest import Watched, playing
from tests.dashboard.page import opened
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync

GRAPH = graph_of(
    ["A", "P", "Q", "R"],
    {
        "B": {"m_input": ["A"], "max_attempts": 1},
        "C": {"m_input": ["B"]},
        "G": {"m_input": ["P"], "approval": "before"},
        "L": {"m_input": ["R"], "max_attempts": 2, "late_result": "ask"},
        "X": {"m_input": ["Q"], "provider": "absent"},
    },
)


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An orchestra for all tests of this module; each has observations of its own."""
    folder = tmp_path_factory.mktemp("orchestra")
    nats = NatsServer(folder / "nats")
    nats.start()
    # What failed is tried again by those who press its button alone.
    with playing(folder, nats, {"graph": GRAPH, "retry_wait_s": 600}) as watched:
        yield watched
    nats.stop()


@pytest.fixture(scope="module")
def page(orchestra: Watched) -> Iterator[Page]:
    """One page of one browser, which the tests lead from address to address."""
    del orchestra  # it outlives the page
    with opened() as page:
        yield page


def press(page: Page, name: str, told: str, *, reason: str = "") -> None:
    """Press a button, read what it is going to do, give the reason, and confirm."""
    page.get_by_role("button", name=name, exact=True).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(told)
    if reason:
        dialog.get_by_label(re.compile("^Reason")).fill(reason)
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_have_count(0)


def eventually_is(orchestra: Watched, **expected: str) -> None:
    """Wait for the state of the newest processing of products, such as ``B_o1``."""
    wanted = {name.replace("_", "/"): state for name, state in expected.items()}

    def probe() -> bool:
        found = states(orchestra.conductor_url)
        return all(found.get(name) == state for name, state in wanted.items())

    eventually_sync(probe, ANSWER_S)


def listed(orchestra: Watched, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(orchestra.conductor_url, path)["items"]
    return found


def newest(orchestra: Watched, product: str, obs_id: str) -> dict[str, Any]:
    return listed(orchestra, f"/processings?product={product}&obs_id={obs_id}")[0]


def reasons(orchestra: Watched, command: str) -> list[str | None]:
    """Return the reasons that orders of a command were recorded with."""
    return [each["reason"] for each in listed(orchestra, f"/orders?command={command}")]


def apart(function: Callable[[], object]) -> None:
    """Call what runs an event loop of its own: the browser has one in this thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function).result()


def test_a_processing_is_cancelled_and_retried_from_its_observation(
    orchestra: Watched, page: Page
) -> None:
    orchestra.stage.pipeline.outcomes["B"].append("running")
    orchestra.stage.archive("A", "o1")
    eventually_is(orchestra, B_o1="running")
    page.goto(f"{orchestra.url}/observations/o1")
    press(page, "Cancel", "It is stopped here and at maker", reason="bad seeing")
    eventually_is(orchestra, B_o1="cancelled")
    assert orchestra.stage.pipeline.cancelled
    press(page, "Retry", "It is asked of maker now")
    eventually_is(orchestra, B_o1="succeeded", C_o1="succeeded")
    assert "bad seeing" in reasons(orchestra, "cancel")


def test_a_processing_is_cancelled_and_retried_from_its_own_page(
    orchestra: Watched, page: Page
) -> None:
    orchestra.stage.pipeline.outcomes["B"].append("running")
    orchestra.stage.archive("A", "o2")
    eventually_is(orchestra, B_o2="running")
    page.goto(f"{orchestra.url}/processings/{newest(orchestra, 'B', 'o2')['id']}")
    press(page, "Cancel", "nothing follows from it until it is retried")
    eventually_is(orchestra, B_o2="cancelled")
    press(page, "Retry", "with its one attempt")
    eventually_is(orchestra, B_o2="succeeded")


@pytest.mark.parametrize("how", ["Leave it", "Escape"])
def test_a_question_that_is_left_orders_nothing_and_gives_the_focus_back(
    orchestra: Watched, page: Page, how: str
) -> None:
    orchestra.stage.archive("A", "o3")
    eventually_is(orchestra, B_o3="succeeded", C_o3="succeeded")
    before = listed(orchestra, "/orders")
    page.goto(f"{orchestra.url}/observations/o3")
    button = page.get_by_role("button", name="Make again").first
    button.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    if how == "Escape":
        page.keyboard.press("Escape")
    else:
        dialog.get_by_role("button", name=how).click()
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    assert listed(orchestra, "/orders") == before


def urge(page: Page, name: str, told: str, *, to_class: str = "", priority: str = "") -> None:
    """Press a button that reprioritizes, and give what is given."""
    page.get_by_role("button", name=name, exact=True).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(told)
    if to_class:
        dialog.get_by_label("Class").select_option(to_class)
    if priority:
        dialog.get_by_label("Priority").fill(priority)
    dialog.get_by_label(re.compile("^Reason")).fill("a burst")
    dialog.locator("button[type=submit]").click()


def test_what_is_to_be_made_is_reprioritized_alone_or_with_its_observation(
    orchestra: Watched, page: Page
) -> None:
    body = {"product": "C", "obs_id": "u1"}
    hold = httpx.post(f"{orchestra.conductor_url}/holds", json=body).raise_for_status().json()
    orchestra.stage.archive("A", "u1")
    eventually_is(orchestra, B_u1="succeeded", C_u1="held")

    def urgency() -> tuple[str, int]:
        found = newest(orchestra, "C", "u1")
        return found["class"], found["priority"]

    assert urgency() == ("live", 0)
    page.goto(f"{orchestra.url}/observations/u1")
    row = page.get_by_role("row", name=re.compile("^C "))
    row.get_by_role("button", name="Reprioritize").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("button[type=submit]").click()
    expect(dialog.get_by_role("alert")).to_contain_text("choose a class, or a priority")
    dialog.get_by_label("Priority").fill("7")
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_have_count(0)
    assert urgency() == ("live", 7)
    urge(page, "Reprioritize observation u1", "1 processing: 1 held", to_class="alert")
    expect(dialog).to_have_count(0)
    assert urgency() == ("alert", 7)
    page.goto(f"{orchestra.url}/processings/{newest(orchestra, 'C', 'u1')['id']}")
    expect(page.get_by_text("alert, 7")).to_be_visible()
    urge(page, "Reprioritize", "inherits the class", to_class="backfill", priority="-2")
    expect(page.get_by_text("backfill, -2")).to_be_visible()
    assert reasons(orchestra, "reprioritize").count("a burst") == 2
    path = f"/holds/{hold['number']}/release"
    httpx.post(f"{orchestra.conductor_url}{path}", json={}).raise_for_status()
    eventually_is(orchestra, C_u1="succeeded")
    # What is made is of no urgency any more.
    expect(page.get_by_role("button", name="Reprioritize")).to_have_count(0)


def test_what_a_campaign_has_begun_is_reprioritized(orchestra: Watched, page: Page) -> None:
    orchestra.stage.archive("A", "v1")
    eventually_is(orchestra, B_v1="succeeded", C_v1="succeeded")
    hold = httpx.post(
        f"{orchestra.conductor_url}/holds", json={"product": "C", "obs_id": "v1"}
    ).raise_for_status()
    order = {"products": ["C"], "obs_ids": ["v1"]}
    with ConductorClient(orchestra.conductor_url) as conductor:
        number = conductor.plan_campaign(order)["number"]
        conductor.order_campaign(number, "start")
    eventually_is(orchestra, C_v1="held")
    page.goto(f"{orchestra.url}/campaigns/{number}")
    urge(
        page,
        f"Reprioritize campaign {number}",
        "What the campaign begins from now on has the class of the campaign",
        to_class="live",
    )
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert newest(orchestra, "C", "v1")["class"] == "live"
    path = f"/holds/{hold.json()['number']}/release"
    httpx.post(f"{orchestra.conductor_url}{path}", json={}).raise_for_status()
    eventually_is(orchestra, C_v1="succeeded")


def test_failures_of_one_cause_are_retried_together_and_one_by_one(
    orchestra: Watched, page: Page
) -> None:
    orchestra.stage.pipeline.outcomes["B"].extend(["failed"] * 3)
    for obs_id in ("i1", "i2", "i3"):
        orchestra.stage.archive("A", obs_id)
    eventually_is(orchestra, B_i1="failed", B_i2="failed", B_i3="failed")
    page.goto(f"{orchestra.url}/inbox")
    page.get_by_role("button", name="▸ scripted").click()
    row = page.get_by_role("row", name=re.compile("^B of i1"))
    row.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").locator("button[type=submit]").click()
    eventually_is(orchestra, B_i1="succeeded")
    press(page, "Retry all of maker: scripted", "2 processings: 2 failed", reason="fixed")
    eventually_is(orchestra, B_i2="succeeded", B_i3="succeeded")
    assert "fixed" in reasons(orchestra, "retry")


def test_what_is_tried_again_is_cancelled_together(orchestra: Watched, page: Page) -> None:
    orchestra.stage.pipeline.outcomes["L"].extend(["failed"] * 2)
    for obs_id in ("i4", "i5"):
        orchestra.stage.archive("R", obs_id)
    eventually_is(orchestra, L_i4="retrying", L_i5="retrying")
    page.goto(f"{orchestra.url}/inbox")
    press(page, "Cancel all of maker: scripted", "2 processings: 2 retrying")
    eventually_is(orchestra, L_i4="cancelled", L_i5="cancelled")


def test_a_provider_is_held_from_the_inbox_and_released(orchestra: Watched, page: Page) -> None:
    orchestra.stage.pipeline.outcomes["B"].append("failed")
    orchestra.stage.archive("A", "i6")
    eventually_is(orchestra, B_i6="failed")
    page.goto(f"{orchestra.url}/inbox")
    press(page, "Hold provider maker", "What runs goes on to its end", reason="it is hot")
    (hold,) = listed(orchestra, "/holds")
    assert (hold["provider"], hold["reason"]) == ("maker", "it is hot")
    press(page, "Retry all of maker: scripted", "1 processing: 1 failed")
    eventually_is(orchestra, B_i6="held")
    page.goto(f"{orchestra.url}/holds")
    press(page, f"Release {hold['what']}", "1 processing would start: 1 B")
    eventually_is(orchestra, B_i6="succeeded")
    assert listed(orchestra, "/holds") == []


def test_a_hold_is_placed_on_a_product(orchestra: Watched, page: Page) -> None:
    page.goto(f"{orchestra.url}/holds")
    page.get_by_label("product", exact=True).fill("C")
    press(page, "Hold product C", "Nothing more of it is asked of a pipeline from now on")
    (hold,) = listed(orchestra, "/holds")
    assert hold["product"] == "C"
    orchestra.stage.archive("A", "h1")
    eventually_is(orchestra, B_h1="succeeded", C_h1="held")
    press(page, f"Release {hold['what']}", "1 processing would start: 1 C")
    eventually_is(orchestra, C_h1="succeeded")


def late_result(orchestra: Watched, obs_id: str) -> None:
    """Cancel a processing of L, and archive its result all the same."""
    orchestra.stage.pipeline.outcomes["L"].append("running")
    orchestra.stage.archive("R", obs_id)
    eventually_is(orchestra, **{f"L_{obs_id}": "running"})
    number = newest(orchestra, "L", obs_id)["id"]
    httpx.delete(f"{orchestra.conductor_url}/processings/{number}").raise_for_status()
    orchestra.stage.archive("L", obs_id, number)


def test_late_results_are_adopted_and_refused(orchestra: Watched, page: Page) -> None:
    for obs_id in ("l1", "l2"):
        late_result(orchestra, obs_id)
    eventually_sync(lambda: len(listed(orchestra, "/approvals?gate=late")) == 2, ANSWER_S)
    page.goto(f"{orchestra.url}/inbox")
    press(page, "Adopt L of l1", "the late result becomes its version")
    eventually_is(orchestra, L_l1="succeeded")
    press(page, "Refuse L of l2", "the late result is not used", reason="wrong settings")
    eventually_sync(lambda: listed(orchestra, "/approvals?gate=late") == [], ANSWER_S)
    eventually_is(orchestra, L_l2="cancelled")
    assert "wrong settings" in reasons(orchestra, "refuse")


def test_late_results_of_a_product_are_adopted_and_refused_together(
    orchestra: Watched, page: Page
) -> None:
    def waiting() -> set[str]:
        return {each["obs_id"] for each in listed(orchestra, "/approvals?gate=late")}

    for verdict, two in (("Adopt", {"l3", "l4"}), ("Refuse", {"l5", "l6"})):
        for obs_id in sorted(two):
            late_result(orchestra, obs_id)
        eventually_sync(lambda two=two: waiting() == two, ANSWER_S)  # type: ignore[misc]
        page.goto(f"{orchestra.url}/inbox")
        names = ", ".join(f"L of {obs_id}" for obs_id in sorted(two))
        expect(page.get_by_role("button", name=f"{verdict} all 2")).to_be_visible()
        press(page, f"{verdict} all 2", names, reason="looked at")
        eventually_sync(lambda: waiting() == set(), ANSWER_S)
    eventually_is(orchestra, L_l3="succeeded", L_l4="succeeded", L_l5="cancelled", L_l6="cancelled")


def test_what_waits_is_approved_and_refused_one_by_one(orchestra: Watched, page: Page) -> None:
    for obs_id in ("p1", "p2"):
        orchestra.stage.archive("P", obs_id)
    eventually_is(orchestra, G_p1="unapproved", G_p2="unapproved")
    page.goto(f"{orchestra.url}/approvals")
    press(page, "Approve G of p1", "it is asked of its pipeline")
    eventually_is(orchestra, G_p1="succeeded")
    press(page, "Refuse G of p2", "it is not made", reason="clouds")
    eventually_is(orchestra, G_p2="cancelled")


@pytest.mark.parametrize(
    ("verdict", "told", "ended", "two"),
    [
        ("Approve", "2 products: it is asked of its pipeline", "succeeded", ("s1", "s2")),
        ("Refuse", "2 products: it is not made", "cancelled", ("s4", "s5")),
    ],
)
def test_what_is_selected_is_approved_or_refused_together(
    orchestra: Watched, page: Page, verdict: str, told: str, ended: str, two: tuple[str, str]
) -> None:
    left = f"{two[0]}-left"
    for obs_id in (*two, left):
        orchestra.stage.archive("P", obs_id)
    eventually_is(orchestra, **{f"G_{obs_id}": "unapproved" for obs_id in (*two, left)})
    page.goto(f"{orchestra.url}/approvals")
    selected = re.compile(rf"{verdict} selected")
    expect(page.get_by_text(selected)).to_be_disabled()
    page.get_by_label("Select all that are shown").check()
    page.get_by_label(f"Select G of {left}").uncheck()
    expect(page.get_by_text(f"{verdict} selected (2)")).to_be_enabled()
    press(page, f"{verdict} all 2", told, reason="all alike")
    eventually_is(orchestra, **{f"G_{obs_id}": ended for obs_id in two})
    assert states(orchestra.conductor_url)[f"G/{left}"] == "unapproved"
    press(page, f"Refuse G of {left}", "it is not made", reason="of this test")
    eventually_is(orchestra, **{f"G_{left}": "cancelled"})


def test_a_refusal_without_a_reason_is_not_sent(orchestra: Watched, page: Page) -> None:
    orchestra.stage.archive("P", "p4")
    eventually_is(orchestra, G_p4="unapproved")
    page.goto(f"{orchestra.url}/approvals")
    page.get_by_role("button", name="Refuse G of p4").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("button[type=submit]").click()
    expect(dialog.locator("input:invalid")).to_have_count(1)
    dialog.get_by_role("button", name="Leave it").click()
    assert states(orchestra.conductor_url)["G/p4"] == "unapproved"


def test_a_campaign_is_planned_started_paused_resumed_and_cancelled(
    orchestra: Watched, page: Page
) -> None:
    for obs_id in ("k1", "k2"):
        orchestra.stage.archive("A", obs_id)
    eventually_is(orchestra, C_k1="succeeded", C_k2="succeeded")
    page.goto(f"{orchestra.url}/campaigns")
    page.get_by_role("button", name="Plan a campaign").click()
    form = page.get_by_role("form", name="Plan a campaign")
    form.get_by_label("Products, or patterns").fill("B")
    form.get_by_label(re.compile("^Observations, or")).fill("k1 k2")
    form.get_by_label("At once, at most").fill("1")
    form.get_by_role("button", name="Plan", exact=True).click()
    expect(page).to_have_url(re.compile(r"/campaigns/\d+$"))
    number = page.url.rpartition("/")[2]

    def eventually_state(state: str) -> None:
        path = f"/campaigns/{number}"
        eventually_sync(lambda: get(orchestra.conductor_url, path)["state"] == state, ANSWER_S)

    eventually_state("planned")
    orchestra.stage.pipeline.outcomes["B"].append("running")
    press(page, f"Start campaign {number}", "2 processings are made, at most 1 at once")
    eventually_state("running")
    press(page, f"Pause campaign {number}", "Nothing more of it is requested", reason="lunch")
    eventually_state("paused")
    press(page, f"Resume campaign {number}", "It goes on: 2 of 2 are left")
    eventually_state("running")
    page.goto(f"{orchestra.url}/campaigns")
    press(page, f"Cancel campaign {number}", "are not made by it")
    running = eventually_sync(
        lambda: [
            each["id"]
            for each in orchestra.stage.pipeline.processings.values()
            if each["state"] == "running"
        ]
    )
    for each in running:
        orchestra.stage.pipeline.end(each, "succeeded")
    eventually_state("cancelled")


def test_dead_letters_are_shown_and_sent_again_one_by_one_and_as_selected(
    orchestra: Watched, page: Page
) -> None:
    stage = orchestra.stage
    apart(lambda: stage.publish("data.vhf", b"\xff", b"no event", b"none either"))
    eventually_sync(lambda: get(orchestra.conductor_url, "/dead")["total"] == 3, ANSWER_S)
    first, second, third = sorted(each["sequence"] for each in listed(orchestra, "/dead"))
    page.goto(f"{orchestra.url}/dead")
    page.get_by_role("button", name=f"Show dead letter {second}").click()
    expect(page.locator("pre.log")).to_have_text("no event")
    press(page, f"Send dead letter {first} again", "Each is published again where it came from")
    expect(page.get_by_role("heading", name="What became of those")).to_be_visible()
    for sequence in (second, third):
        page.get_by_label(f"Select dead letter {sequence}").check()
    press(page, "Send selected again (2)", "Each is published again where it came from")
    # None is understood now, either: each was decided about again, and put aside again.
    eventually_sync(
        lambda: {first, second, third}.isdisjoint(
            each["sequence"] for each in listed(orchestra, "/dead")
        ),
        ANSWER_S,
    )


def test_a_circuit_is_closed_and_a_provider_held_and_released(
    orchestra: Watched, page: Page
) -> None:
    def circuits() -> list[str]:
        (absent,) = (
            each for each in listed(orchestra, "/providers") if each["provider"] == "absent"
        )
        return [each["circuit"] for each in absent["instances"]]

    for number in range(6):
        orchestra.stage.archive("Q", f"q{number}")
    eventually_sync(lambda: circuits() == ["open"], ANSWER_S)
    page.goto(f"{orchestra.url}/providers")
    # Held, so that nothing opens it again meanwhile.
    press(page, "Hold provider absent", "Nothing more of it is asked of a pipeline")
    (hold,) = listed(orchestra, "/holds")
    press(page, "Close circuit of absent", "Requests are sent to its address again, at once")
    assert circuits() == ["closed"]
    assert len(listed(orchestra, "/orders?command=providers --close")) == 1
    press(page, f"Release {hold['what']}", "would start")
    eventually_sync(lambda: listed(orchestra, "/holds") == [], ANSWER_S)


def test_a_version_is_withdrawn_with_its_reason(orchestra: Watched, page: Page) -> None:
    orchestra.stage.archive("A", "w1")
    eventually_is(orchestra, B_w1="succeeded")
    page.goto(f"{orchestra.url}/products/B/w1")
    press(page, "Withdraw", "Its record and bytes are kept", reason="wrong dark")
    (found,) = get(orchestra.stage.sdb_url, "/products?product=B&obs_id=w1&withdrawn=true")["items"]
    assert found["withdrawn_reason"] == "wrong dark"


def test_a_version_is_downloaded_with_its_name_and_bytes(orchestra: Watched, page: Page) -> None:
    orchestra.stage.archive("A", "d1", content=b"what was observed")
    eventually_is(orchestra, B_d1="succeeded")
    page.goto(f"{orchestra.url}/products/A/d1")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    [stored] = get(orchestra.stage.sdb_url, "/products?product=A&obs_id=d1")["items"]
    assert Path(download.value.path()).read_bytes() == b"what was observed"
    assert download.value.suggested_filename == stored["filename"]


def test_a_graph_is_checked_compared_applied_and_taken_back(
    orchestra: Watched, page: Page, tmp_path: Path
) -> None:
    document = dict(GRAPH.as_document())
    products: dict[str, Any] = json.loads(json.dumps(document["products"]))
    products["C"]["priority"] = 7
    page.goto(f"{orchestra.url}/graph")
    page.get_by_label("Document", exact=True).fill("inputs: [A]\nproducts: {B: {m_input: [Z]}}")
    page.get_by_role("button", name="Check and preview").click()
    expect(page.get_by_role("alert")).to_contain_text("Z")
    changed = tmp_path / "graph.json"
    changed.write_text(json.dumps({**document, "products": products}))
    page.get_by_label("a file").set_input_files(changed)
    page.get_by_role("button", name="Check and preview").click()
    expect(page.get_by_role("row", name=re.compile("C, priority .* 7"))).to_be_visible()
    press(page, "Apply this graph", "It is in force at once, without a restart", reason="sooner")

    def in_force() -> tuple[int, str | None]:
        (found,) = (each for each in listed(orchestra, "/graph/versions") if each["in_force"])
        return found["number"], found["note"]

    assert in_force() == (2, "sooner")
    expect(page.get_by_role("heading", name="Product graph, version 2")).to_be_visible()
    page.get_by_role("button", name="Show version 2").click()
    expect(page.locator("pre.log")).to_contain_text('"priority": 7')
    press(page, "Go back to version 1", "C, priority")
    assert in_force()[0] == 3
    graph = get(orchestra.conductor_url, "/graph")
    assert graph["products"]["C"]["priority"] != 7


def test_a_question_about_the_graph_stays_while_another_version_comes_and_is_refused_then(
    orchestra: Watched, page: Page
) -> None:
    def put_in_force(priority: int) -> int:
        graph = get(orchestra.conductor_url, "/graph")
        graph["products"]["C"]["priority"] = priority
        url = f"{orchestra.conductor_url}/graph/versions"
        answer = httpx.post(url, json={"graph": graph}, timeout=60).raise_for_status()
        return int(answer.json()["number"])

    first = put_in_force(11)
    seen = put_in_force(12)
    page.goto(f"{orchestra.url}/graph")
    page.get_by_role("button", name=f"Go back to version {first}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("C, priority")
    dialog.get_by_label(re.compile("^Reason")).fill("too many")
    newest = put_in_force(13)
    expect(page.get_by_role("heading", name=f"Product graph, version {newest}")).to_be_visible()
    expect(page.get_by_role("button", name=f"Go back to version {seen}")).to_be_attached()
    expect(dialog.get_by_label(re.compile("^Reason"))).to_have_value("too many")
    dialog.locator("button[type=submit]").click()
    expect(dialog.get_by_role("alert")).to_contain_text(str(newest))
    assert get(orchestra.conductor_url, "/graph")["products"]["C"]["priority"] == 13
    dialog.get_by_role("button", name="Leave it").click()
