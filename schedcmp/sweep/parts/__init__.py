"""The parts of a sweep file: their keys, types, defaults and limits."""
