"""What a sweep may have several of: the table of axes, and what it makes of a cell."""

from schedcmp.axes.axis import Axis, Value
from schedcmp.axes.setting import Setting, arguments_of, request_of, task_of, values_of
from schedcmp.axes.table import AXES, CONTENT, FOLDERS, INPUTS, OPTIONAL, PAGED, PLAIN, SETTING, SYNONYMS, is_guided
from schedcmp.axes.words import adapters, arguments, canonical, lora_name, plain_name, text

__all__ = [
    "AXES", "CONTENT", "FOLDERS", "INPUTS", "OPTIONAL", "PAGED", "PLAIN", "SETTING", "SYNONYMS", "Axis", "Setting",
    "Value", "adapters", "arguments", "arguments_of", "canonical", "is_guided", "lora_name", "plain_name", "request_of",
    "task_of", "text", "values_of",
]  # fmt: skip
