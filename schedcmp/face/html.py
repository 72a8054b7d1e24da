"""A run as a notebook shows it: the grid, the answer, the latencies."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from PIL.Image import Image

    from schedcmp.report.tables import TimingRow

_WIDEST = 1200  # px
_MOST_ROWS = 12

_TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<div>
{% if grid %}<img src="data:image/png;base64,{{ grid }}" alt="grid of images" style="max-width: 100%">{% endif %}
{% for line in answer %}<p>{{ line }}</p>
{% endfor %}
{% if rows %}<table><tr>{% for name in head %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% if more %}<p>and {{ more }} rows more, in timings.csv</p>{% endif %}
<p>{{ count }} images{% if troubled %}, {{ troubled }} failed or flagged{% endif %} in <code>{{ folder }}</code></p>
</div>""")


def described(grid: Image | None, answer: Sequence[str], timings: Sequence[TimingRow], **facts: Any) -> str:
    """HTML that needs nothing beside itself.

    Args:
        facts: the `count` of images, how many are `troubled`, and their `folder`.
    """
    from schedcmp.report.tables import HEAD, readable

    rows = readable(timings)
    return _TEMPLATE.render(
        grid=_in_text(grid) if grid else "",
        answer=answer,
        head=HEAD,
        rows=rows[:_MOST_ROWS],
        more=max(0, len(rows) - _MOST_ROWS),
        **facts,
    )


def _in_text(image: Image) -> str:
    from schedcmp.pictures.image import encoded

    image.thumbnail((_WIDEST, 4 * _WIDEST))
    return base64.b64encode(encoded(image, "PNG")).decode()
