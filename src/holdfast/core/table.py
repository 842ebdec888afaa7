"""A state machine as a table, and the checker that proves it sound.

Theory: a machine is rows. A row is one state: its kind and, for every input that it answers, the next state, `IGNORE`
(accepted, nothing changes), `REFUSE`, or `ANEW` (a final state's answer: a new task is made). An input that a row does
not name is an error of whoever sent it. A *moving* state has work to do and belongs to a worker, so it answers the
worker's death; a *resting* one waits for a person; a *final* one is the end. Everything else that knows a state's name
(groups, SQL, the API's verb matrix, docs, diagrams) is derived from the rows.

The tables of tasks and steps: core/states.py. How a machine is drawn: core/diagram.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from holdfast.errors import MachineFault, StateError, VerbRefused

IGNORE: Final = "(ignored)"
REFUSE: Final = "(refused)"
ANEW: Final = "(a new task)"
ANSWERS: Final = frozenset((IGNORE, REFUSE, ANEW))

Kind = Literal["moving", "resting", "final"]


class Row(NamedTuple):
    """One state. `moves`: input -> next state, IGNORE, REFUSE or ANEW."""

    kind: Kind
    moves: Mapping[str, str]


def moving(**moves: str) -> Row:
    """The row of a state in which a worker has something to do."""
    return Row("moving", moves)


def resting(**moves: str) -> Row:
    """The row of a state that only a person leaves."""
    return Row("resting", moves)


def final(**moves: str) -> Row:
    """The row of a state that is the end."""
    return Row("final", moves)


class Machine:
    """A table of states. The first row is where it starts.

    verbs: the inputs that people give; every state has to answer each. inputs: all others; a name that is in neither
    is a fault (leave it empty to take any). death: the input by which a moving state learns that its worker died.
    reopens: the inputs that may leave a final state. operated: the kinds of states that some verb has to lead out of.
    check: refuse an unsound table now.

    Raises: MachineFault: a sentence for each fault, which names the state.
    """

    __slots__ = ("death", "inputs", "name", "next", "operated", "reopens", "rows", "start", "verbs")

    def __init__(
        self,
        name: str,
        rows: Mapping[str, Row],
        *,
        verbs: Iterable[str] = (),
        inputs: Iterable[str] = (),
        death: str | None = "worker_died",
        reopens: Iterable[str] = (),
        operated: Iterable[Kind] = ("moving", "resting"),
        check: bool = True,
    ) -> None:
        self.name = name
        self.rows = dict(rows)
        self.start = next(iter(self.rows), "")
        self.verbs = tuple(verbs)
        self.inputs = tuple(inputs)
        self.death = death
        self.reopens = frozenset(reopens)
        self.operated = frozenset(operated)
        #: state -> input -> next state, for the inputs that are taken; what is refused is not there.
        self.next: dict[str, dict[str, str]] = {
            state: {
                given: state if answer == IGNORE else answer
                for given, answer in row.moves.items()
                if answer not in (REFUSE, ANEW)
            }
            for state, row in self.rows.items()
        }
        if check and (found := faults(self)):
            raise MachineFault("; ".join(found), machine=name, faults=found)

    def answer(self, state: str, given: str) -> str:
        """What `state` says to an input: the next state, IGNORE, REFUSE or ANEW.

        Raises: StateError: the table says nothing about it.
        """
        row = self.rows.get(state)
        if row is None:
            raise StateError(f"{state} is no state of {self.name}")
        answer = row.moves.get(given)
        if answer is None:
            raise StateError(f"{state} does not answer {given}", state=state, input=given)
        return answer

    def move(self, state: str, given: str) -> str:
        """The state after an input; the same one where it is ignored.

        Raises: VerbRefused: a verb that the state does not allow; `details["allowed"]` lists those it does.
        StateError: the table has no such move.
        """
        answer = self.answer(state, given)
        if answer == IGNORE:
            return state
        if answer in (REFUSE, ANEW):
            if given not in self.verbs:
                raise StateError(f"{state} refuses {given}", state=state, input=given)
            raise self.refusal(state, given)
        return answer

    def refusal(self, state: str, verb: str) -> VerbRefused:
        """The error that says a verb is not allowed, and which are."""
        allowed = self.verbs_allowed(state)
        instead = f"; allowed now: {', '.join(allowed)}" if allowed else ""
        return VerbRefused(f"can't {verb} while {state.partition('/')[0]}{instead}", state=state, allowed=allowed)

    def verbs_allowed(self, state: str) -> list[str]:
        """The verbs that would change something."""
        moves = self.rows[state].moves
        return [verb for verb in self.verbs if moves.get(verb, REFUSE) not in (IGNORE, REFUSE)]

    def edges(self) -> Iterator[tuple[str, str, str]]:
        """Every (state, input, next state) that the table declares; what is ignored is no edge."""
        for state, row in self.rows.items():
            for given, answer in row.moves.items():
                if answer not in ANSWERS:
                    yield state, given, answer

    def of_kind(self, *kinds: Kind) -> frozenset[str]:
        return frozenset(state for state, row in self.rows.items() if row.kind in kinds)


def faults(machine: Machine) -> list[str]:
    """What is wrong with a table, a sentence each, with the state's name; [] is sound."""
    if not machine.rows:
        return [f"{machine.name} has no states"]
    found: list[str] = []
    for state, row in machine.rows.items():
        found += _row_faults(machine, state, row)
    edges = [(state, target) for state, _, target in machine.edges() if target in machine.rows]
    reached = _closure({machine.start}, edges)
    found += [f"{state} can't be reached from {machine.start}" for state in machine.rows if state not in reached]
    ending = _closure(machine.of_kind("final"), [(target, state) for state, target in edges])
    found += [f"{state} is a dead end: no final state can be reached" for state in machine.rows if state not in ending]
    return found


def _row_faults(machine: Machine, state: str, row: Row) -> Iterator[str]:
    known = {*machine.verbs, *machine.inputs, machine.death}
    for given, answer in row.moves.items():
        if answer not in ANSWERS and answer not in machine.rows:
            yield f"{state}: {given} leads to {answer}, which is not declared"
        if machine.inputs and given not in known:
            yield f"{state} answers {given}, which is no input of {machine.name}"
        if row.kind == "final" and answer not in ANSWERS and given not in machine.reopens:
            yield f"{state} is final, and {given} leads out of it to {answer}"
        if row.kind != "final" and answer == ANEW:
            yield f"{state}: {given} makes a new task while this one has not ended"
    for verb in machine.verbs:
        if verb not in row.moves:
            yield f"{state} has no answer to {verb}"
    if row.kind == "moving" and machine.death is not None and machine.death not in row.moves:
        yield f"{state} is moving and has no answer to {machine.death}"
    if row.kind != "final":
        ways = [given for given, answer in row.moves.items() if answer not in ANSWERS and answer != state]
        if not ways:
            yield f"{state} is left by no input"
        elif machine.verbs and row.kind in machine.operated and not set(machine.verbs).intersection(ways):
            yield f"{state} is left by no operator verb"


def _closure(start: Iterable[str], edges: list[tuple[str, str]]) -> set[str]:
    """All that can be reached from `start`."""
    after: dict[str, list[str]] = {}
    for state, target in edges:
        after.setdefault(state, []).append(target)
    reached = set(start)
    waiting = list(reached)
    while waiting:
        for target in after.get(waiting.pop(), ()):
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached
