"""The picture of the session's states in the docs is the one that the code's table draws."""

from pathlib import Path

from hgext_zmqhooks.wire.session import TRANSITIONS, Role, State
from hgext_zmqhooks.wire.verbs import VERBS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "session.md"


def picture() -> str:
    """The table as a state diagram of Mermaid: one arrow per pair of states."""
    arrows: dict[tuple[State, State], dict[Role, list[str]]] = {}
    for (before, role, kind), after in TRANSITIONS.items():
        said = arrows.setdefault((before, after), {})
        said.setdefault(role, []).append(VERBS[kind].decode())
    lines = ["stateDiagram-v2", f"    [*] --> {State.OPENING.value}"]
    for (before, after), said in arrows.items():
        label = " / ".join(f"{role.value} {', '.join(verbs)}" for role, verbs in said.items())
        lines.append(f"    {before.value} --> {after.value} : {label}")
    lines.append(f"    {State.ENDED.value} --> [*]")
    return "\n".join(lines)


def test_the_picture_in_the_docs_is_drawn_from_the_table() -> None:
    assert f"```mermaid\n{picture()}\n```" in PAGE.read_text(), picture()


def test_every_state_is_in_the_picture() -> None:
    assert [state for state in State if f" {state.value} " not in picture()] == []
