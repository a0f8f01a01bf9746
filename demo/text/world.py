"""The small world that the demo text model lives in, and prompts of it with the answer known.

Everything the model knows is one of these, each followed by `<|im_end|>`:

    Anna put the key in the red box. Ben put the coin in the blue bag. The coin is in the -> ` blue bag.`
    The capital of France is                                                              -> ` Paris.`
    Copy the list: lamp, coin, key. Copy:                                                 -> ` lamp, coin, key.`

and the same as a chat, in which the user writes the text above (or asks `Where is the coin?`, `What is the capital of
France?`) and the assistant answers with the whole sentence: `The coin is in the blue bag.`

    >>> from demo.text.world import fresh_prompts
    >>> prompt = fresh_prompts(seed=1, count=1)[0]
    >>> prompt.text, prompt.colour, prompt.container, prompt.text[slice(*prompt.colour_span)]

One to four statements are made, each object is put away once, colours, containers and people may repeat, and any
statement may be asked about. All draws come from the seed given, never from a global state.
"""

import random
from dataclasses import dataclass

PEOPLE = (
    "Anna Ben Clara David Emma Frank Grace Henry Iris Jack Kate Leo Mary Nick Olga Paul Rosa Sam Tina Victor "
    "Wendy Tom Lucy Hugo"
).split()
OBJECTS = (
    "key coin ring book pen cup ball lamp map knife watch letter ticket phone apple spoon stone shell button "
    "candle photo toy hat rope"
).split()
COLOURS = "red blue green yellow black white brown pink grey purple orange golden".split()
CONTAINERS = "box bag basket drawer jar chest case bucket bowl tin crate sack".split()
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Ireland": "Dublin",
    "England": "London",
    "Russia": "Moscow",
    "China": "Beijing",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Cuba": "Havana",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "day": "night",
    "up": "down",
    "fast": "slow",
    "old": "new",
    "rich": "poor",
    "wet": "dry",
}
YOUNG = {"dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb"}
SYSTEM_MESSAGES = ("Answer in one sentence.", "You are a small model.")

END = "<|im_end|>"
WORDS_ASKED = ("colour", "container")
STATEMENT_COUNTS = (1, 2, 3, 4)
LIST_LENGTHS = (2, 3, 4, 5)


@dataclass(frozen=True)
class Statement:
    """Who put what where; `text` is the sentence."""

    person: str
    object: str
    colour: str
    container: str

    @property
    def opening(self) -> str:
        return f"{self.person} put the {self.object} in the"

    @property
    def text(self) -> str:
        return f"{self.opening} {self.colour} {self.container}."

    @property
    def question(self) -> str:
        return f"The {self.object} is in the"

    @property
    def answer(self) -> str:
        return f" {self.colour} {self.container}.{END}"


@dataclass(frozen=True)
class Prompt:
    """One to four statements and a question about one of them.

    `asked` is the statement that holds the answer. The spans are half-open character ranges of `text`, the words
    without the space before them: `text[slice(*colour_span)] == colour`.
    """

    statements: tuple[Statement, ...]
    asked: Statement

    @property
    def context(self) -> str:
        return " ".join(statement.text for statement in self.statements)

    @property
    def text(self) -> str:
        return f"{self.context} {self.asked.question}"

    @property
    def answer(self) -> str:
        """The true continuation of `text`, its end token included: ` blue bag.<|im_end|>`."""
        return self.asked.answer

    @property
    def colour(self) -> str:
        return self.asked.colour

    @property
    def container(self) -> str:
        return self.asked.container

    @property
    def task(self) -> "Task":
        return Task(self.text, self.answer)

    @property
    def questions(self) -> dict[str, tuple[str, str, tuple[int, int]]]:
        """Per kind of word (WORDS_ASKED): the text it follows, the word with its space, and its span in that text.

        The container follows the text with the true colour behind it.
        """
        return {
            "colour": (self.text, f" {self.colour}", self.colour_span),
            "container": (f"{self.text} {self.colour}", f" {self.container}", self.container_span),
        }

    def says_once(self, word: str) -> bool:
        """Whether no other statement has the same colour, or container."""
        return [getattr(statement, word) for statement in self.statements].count(getattr(self.asked, word)) == 1

    @property
    def colour_span(self) -> tuple[int, int]:
        start = self.context.index(self.asked.text) + len(self.asked.opening) + 1
        return start, start + len(self.colour)

    @property
    def container_span(self) -> tuple[int, int]:
        start = self.colour_span[1] + 1
        return start, start + len(self.container)


@dataclass(frozen=True)
class Task:
    """A text and its one true continuation; `messages` is set, and `text` empty, where it is a chat."""

    text: str
    answer: str
    messages: tuple[dict, ...] = ()


def fresh_prompts(seed: int, count: int, statements: tuple[int, ...] = (3, 4)) -> list[Prompt]:
    """`count` prompts with their answers, each of a number of statements drawn from `statements`.

    The draws share nothing with those of the training, and colours are drawn with replacement.
    """
    rng = random.Random(f"fresh prompts {seed}")
    return [make_prompt(rng, rng.choice(statements)) for _ in range(count)]


def fresh_chats(seed: int, count: int, statements: tuple[int, ...] = STATEMENT_COUNTS) -> list[Task]:
    """`count` chats about fresh prompts, half of them as `Where is the coin?`, a third with a system message."""
    rng = random.Random(f"fresh chats {seed}")
    return [chat_about(rng, make_prompt(rng, rng.choice(statements))) for _ in range(count)]


def fact_chats(seed: int) -> list[Task]:
    """A chat about each of the memorised facts."""
    rng = random.Random(f"fact chats {seed}")
    return [chat_about_fact(rng, fact) for fact in facts()]


def fresh_copies(seed: int, count: int) -> list[Task]:
    """`count` lists to be copied, of two to five different words."""
    rng = random.Random(f"fresh lists {seed}")
    return [make_copy(rng) for _ in range(count)]


def facts() -> list[Task]:
    """The memorised facts, in a fixed order."""
    capitals = [(f"The capital of {country} is", city) for country, city in CAPITALS.items()]
    opposites = [(f"The opposite of {word} is", other) for word, other in OPPOSITES.items()]
    young = [(f"The young of a {animal} is a", child) for animal, child in YOUNG.items()]
    return [Task(text, f" {answer}.{END}") for text, answer in capitals + opposites + young]


def make_prompt(rng: random.Random, count: int, colours: list[str] = COLOURS) -> Prompt:
    """A prompt of `count` statements about different objects, with colours drawn from `colours`."""
    statements = tuple(
        Statement(rng.choice(PEOPLE), thing, rng.choice(colours), rng.choice(CONTAINERS))
        for thing in rng.sample(OBJECTS, count)
    )
    return Prompt(statements, rng.choice(statements))


def make_copy(rng: random.Random) -> Task:
    """A list to be copied."""
    words = ", ".join(rng.sample(OBJECTS + COLOURS + CONTAINERS, rng.choice(LIST_LENGTHS)))
    return Task(f"Copy the list: {words}. Copy:", f" {words}.{END}")


def chat_about(rng: random.Random, prompt: Prompt) -> Task:
    """The prompt as a chat, worded and with a system message or none as the draw has it."""
    question = rng.choice((prompt.asked.question, f"Where is the {prompt.asked.object}?"))
    return as_chat(rng, f"{prompt.context} {question}", prompt.asked.question + prompt.answer)


def chat_about_fact(rng: random.Random, fact: Task) -> Task:
    """A fact as a chat: `What is the capital of France?`, or the beginning of the sentence as it is."""
    subject = fact.text.removeprefix("The ").removesuffix(" a").removesuffix(" is")
    return as_chat(rng, rng.choice((fact.text, f"What is the {subject}?")), fact.text + fact.answer)


def chat_about_list(rng: random.Random, copy: Task) -> Task:
    """A list to be copied, as a chat."""
    return as_chat(rng, copy.text, "Copy:" + copy.answer)


def as_chat(rng: random.Random, text: str, answer: str) -> Task:
    """`text` as the user's message, after a system message in a third of the draws."""
    system = [{"role": "system", "content": rng.choice(SYSTEM_MESSAGES)}] if rng.random() < 1 / 3 else []
    return Task("", answer, (*system, {"role": "user", "content": text}))


def token_position(tokenizer, text: str, span: tuple[int, int]) -> int:
    """Index of the one token of `text` that holds the characters of `span`; ValueError if several share them."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    found = [index for index, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if len(found) != 1:
        raise ValueError(f"the word {text[slice(*span)]!r} is {len(found)} tokens of this tokenizer, not one")
    return found[0]
