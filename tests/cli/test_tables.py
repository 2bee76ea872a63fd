from __future__ import annotations

import io
import sys

from rich.cells import cell_len

from pellucid.cli.tables import plain_lines, print_table

COLUMNS = {"part": "left", "value": "right", "why": "left"}
ROWS = [("词表", "1,024", "a" * 200), ("[bold]x[/bold]", "8", "")]


def test_plain_columns_line_up_with_wide_characters():
    heading, first, second = plain_lines(COLUMNS, ROWS)
    ends = [cell_len(heading[: heading.index("value") + 5]), cell_len(first[: first.index("1,024") + 5])]
    assert ends[0] == ends[1] == cell_len(second)


def test_a_pipe_gets_whole_lines(capsys):
    print_table(COLUMNS, ROWS)
    assert "a" * 200 in capsys.readouterr().out


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_every_character_and_no_markup_is_read(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "dumb")  # no colours, and a width of 80
    print_table(COLUMNS, ROWS, strong={0})
    shown = screen.getvalue()
    assert shown.count("a") >= 200 and "[bold]x[/bold]" in shown and "1,024" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
