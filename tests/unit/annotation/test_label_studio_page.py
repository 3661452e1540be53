"""Guidelines as Label Studio shows them."""

import pytest

from annotation.label_studio_page import instructions


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("1. Read it.\n2. Judge it.\n", "1. Read it.<br>2. Judge it."),
        ("1. Read it,\n   then\n   *judge* it.", "1. Read it, then <i>judge</i> it."),
        ("- one\n  - **two**\r\n  * three", "- one<br>  - <b>two</b><br>  * three"),
        ("3 * 4 * 5 is 60", "3 * 4 * 5 is 60"),
        ("a < b & *c*", "a &lt; b &amp; <i>c</i>"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ],
)
def test_guidelines_keep_their_lines_and_emphasis_and_nothing_else(markdown, shown):
    assert instructions(markdown) == shown
