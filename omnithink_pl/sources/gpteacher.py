"""GPTeacher Roleplay: requests to play a part, with a reply each."""

from __future__ import annotations

from typing import final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Defect, ParsedRow


@final
class GPTeacherRoleplay(CuratedSource):
    """seank0602/gpteacher_rp: the simple roleplay set of teknium1/GPTeacher (MIT; 1,923 rows).

    A row: ``{"instruction": "Pretend you are a detective in the 1920s ...", "input": "The witness claims ...",
    "response": "1. Can you describe ..."}``; ``input`` is mostly empty. Replies were written by GPT-4, most of them in
    50 to 130 words. Rows have no id of their own: it is a hash of the prompt.
    """

    columns: tuple[str, ...] = ("instruction", "input", "response")

    def parse(self, row: Row) -> ParsedRow | Defect:
        """Return instruction and input, with the reply that a completion is compared to."""
        instruction, given, reply = (str(row[column] or "").strip() for column in self.columns)
        prompt = f"{instruction}\n\n{given}" if given else instruction
        uid = text_uid(prompt)
        if not instruction:
            return Defect(uid, "instruction", "it is empty; give it a text or drop the row")
        if not reply:
            return Defect(uid, "response", "it is empty; give it a text or drop the row")
        return ParsedRow(uid, prompt, reply)
