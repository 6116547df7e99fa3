"""Helpers that tests share: worlds whose answers are known, definitions, and what drives processes and browsers."""
