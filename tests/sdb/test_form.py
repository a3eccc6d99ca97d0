"""The form, however the network cuts it."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from batuta.sdb.fields import FIELDS, FILE, QUICKLOOK
from batuta.sdb.form import ImportForm

BOUNDARY = "b-o"
HEADERS = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, extra: str, value: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + value + b"\r\n"


# Bytes that look like the boundary are the ones to fear.
contents = (
    st.lists(
        st.sampled_from(
            [b"\r\n", b"--", b"b-o", b"\r", b"\n", b"-", b"\r\n--b-", b"x", b"\x00" * 2000]
        )
    )
    .map(b"".join)
    .filter(lambda content: f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + content)
)


@settings(max_examples=300, deadline=None)
@example(content=b"--", sizes=[1])
@given(
    content=contents, sizes=st.lists(st.one_of(st.integers(1, 9), st.integers(1, 9000)), min_size=1)
)
def test_a_form_means_the_same_however_it_is_cut(content: bytes, sizes: list[int]) -> None:
    body = part("product", "", b"A") + part("file", '; filename="f"', content)
    body += part("obs_id", "", b"o1") + f"--{BOUNDARY}--\r\n".encode()
    form, received = ImportForm(HEADERS), []
    turn = 0
    while body:
        size = sizes[turn % len(sizes)]
        form.feed(body[:size])
        received += form.take()
        body, turn = body[size:], turn + 1
    asked = form.finish()
    received += form.take()
    assert b"".join(received) == content
    assert (asked.product, asked.obs_id, asked.filename) == ("A", "o1", "f")


def test_both_ways_to_import_declare_all_fields(interface: dict[str, Any]) -> None:
    form = interface["paths"]["/products"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(form["schema"]["properties"]) == {*FIELDS, FILE, QUICKLOOK}
    bare = interface["paths"]["/products/{product}/{obs_id}"]["post"]["parameters"]
    assert {each["name"] for each in bare} == {*FIELDS, "filename"}
