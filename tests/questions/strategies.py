"""Questions as the service may hold them."""

from __future__ import annotations

from hypothesis import strategies as st

from homeroom.questions.model import Question

# What XML has a form for: no control characters but tab, newline and return, no surrogates, no noncharacters.
characters = st.one_of(
    st.characters(exclude_categories=("Cs", "Cc", "Cn")),
    st.sampled_from("\t\n\r <>&\"'=+-@|\\~{}#:;,_%[]"),
)
texts = st.text(characters, max_size=30)
visible = texts.filter(lambda text: bool(text.strip()))
words = st.none() | visible.map(str.strip).filter(bool).map(lambda text: text[:20].strip() or "x")


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """A question that Homeroom keeps, with an odd text wherever a text may be."""
    choices = draw(st.lists(texts, max_size=5, unique=True))
    if choices:
        accepted = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3))
    else:
        accepted = draw(st.lists(texts, min_size=1, max_size=4))
    return Question(
        question_id=draw(visible),
        prompt=draw(visible),
        choices=tuple(choices),
        accepted=tuple(accepted),
        difficulty=draw(words),
        subject=draw(words),
    )
