"""The words that embedded problems and stories are made of."""

from __future__ import annotations

PEOPLE = {
    "Mia": "She",
    "Tom": "He",
    "Ana": "She",
    "Ben": "He",
    "Zoe": "She",
    "Sam": "He",
    "Eva": "She",
    "Max": "He",
}
"""Name to pronoun."""

NOUNS = {
    "lamp": ("lit the lamp", "polished the lamp"),
    "river": ("crossed the river", "swam in the river"),
    "bread": ("baked the bread", "sliced the bread"),
    "letter": ("wrote the letter", "sealed the letter"),
    "boat": ("rowed the boat", "steered the boat"),
    "song": ("sang the song", "hummed the song"),
    "garden": ("watered the garden", "weeded the garden"),
    "key": ("turned the key", "hid the key"),
    "horse": ("rode the horse", "fed the horse"),
    "tower": ("climbed the tower", "guarded the tower"),
    "soup": ("cooked the soup", "stirred the soup"),
    "door": ("opened the door", "locked the door"),
    "map": ("read the map", "drew the map"),
    "forest": ("entered the forest", "left the forest"),
    "coat": ("wore the coat", "mended the coat"),
    "drum": ("beat the drum", "played the drum"),
    "ladder": ("went up the ladder", "came down the ladder"),
    "kite": ("flew the kite", "chased the kite"),
    "clock": ("wound the clock", "repaired the clock"),
    "bridge": ("walked over the bridge", "hid under the bridge"),
}
"""Noun to what one does with it, and with little else: using a word means using it fittingly."""

BLAND = ("saw the", "had the", "found the")
"""What one can do with anything."""

MOODS = {
    "happy": ("with a big smile", "full of joy", "laughing loudly", "in bright sunshine"),
    "sad": ("with a heavy heart", "full of sorrow", "crying softly", "in grey rain"),
    "scary": ("with trembling hands", "full of fear", "looking back", "in deep darkness"),
    "angry": ("with clenched fists", "full of rage", "shouting wildly", "in red fury"),
    "calm": ("with a slow breath", "full of peace", "taking time", "in soft silence"),
}
"""Mood to the phrases that express it."""

OPENERS = (
    ("One day", "Once", "That morning"),
    ("Then", "Later", "Soon"),
    ("At last", "Finally", "In the end"),
)
"""How the first, second and third sentence may begin."""
