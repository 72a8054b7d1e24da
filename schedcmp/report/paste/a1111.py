"""A cell as A1111's infotext: paste it into the prompt, press the arrow."""

from __future__ import annotations

from schedcmp.errors import RequestError
from schedcmp.report.paste.infotext import a1111_parameters
from schedcmp.report.paste.subject import Subject


def write(subject: Subject) -> str:
    """Raises RequestError where A1111 has no such sampler."""
    subject.names("a1111")
    if subject.entry is None:
        raise RequestError(f"a1111 has no sampler that is {subject.cell.scheduler}")
    environment = subject.environment
    generator = "cpu" if subject.sweep.get("generator", "cpu") == "cpu" else environment["device"]
    model = environment["checkpoint"]
    config = subject.config
    return a1111_parameters(subject.cell, subject.entry, config, subject.size, model=model, generator=generator) + "\n"
