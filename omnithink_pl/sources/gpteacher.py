"""GPTeacher Roleplay: requests to play a part, with a reply each."""

from __future__ import annotations

from typing import final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.cells import optional_text_of, text_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow


@final
class GPTeacherRoleplay(CuratedSource):
    """seank0602/gpteacher_rp: the simple roleplay set of teknium1/GPTeacher (MIT; 1,923 rows).

    A row: ``{"instruction": "Pretend you are a detective in the 1920s ...", "input": "The witness claims ...",
    "response": "1. Can you describe ..."}``; ``input`` is mostly empty. Replies were written by GPT-4, most of them in
    50 to 130 words. Rows have no id of their own: it is a hash of the prompt.
    """

    columns: tuple[str, ...] = ("instruction", "input", "response")

    def parse(self, row: Row) -> ParsedRow:
        """Return instruction and input, with the reply that a completion is compared to."""
        instruction, given = text_of(row, "instruction").strip(), optional_text_of(row, "input").strip()
        prompt = f"{instruction}\n\n{given}" if given else instruction
        return ParsedRow(text_uid(prompt), prompt, text_of(row, "response").strip())
