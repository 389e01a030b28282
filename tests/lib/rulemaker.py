# SPDX-License-Identifier: GPL-2.0-or-later
"""Random rulesets, and what they do to a packet: once as text for nft, once as Python. The second knows
nothing of handles and places, only of who is denied by what."""

import itertools
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from knocks import PORTS, VISITORS, Knock
from probe import FAMILIES

ACCEPT, DENY = "accept", "deny"
LEFT = "left"
LOGGED = "logged"
# a step on the way to a verdict: a chain and the number of the rule in it, or the policy
POLICY = -1
ACTIONS = ("accept", "accept", "drop", "drop", "reject", "return", "counter")
MAPPABLE = ("accept", "drop", "return")
CHAINS = ("c0", "c1", "c2", "c3")


@dataclass
class Packet:
    knock: Knock
    mark: int = 0
    marks: dict["Way", int] = field(default_factory=dict)  # that it came with to the steps of one base chain


FROM_UPLINK = Packet(Knock("stranger", "v4", 0))


@dataclass
class Condition:
    text: str
    holds: Callable[[Packet], bool]
    about_kind: bool = False  # about what kind of packet it is, or how many: not who sends it, or where to
    about_interface: bool = False


@dataclass
class Rule:
    conditions: list[Condition]
    action: str  # "accept", "drop", "reject...", "jump X", "goto X", "return", or of no consequence
    vmap: dict[int, str] = field(default_factory=dict)  # by port; instead of an action

    def text(self) -> str:
        parts = [condition.text for condition in self.conditions]
        if self.vmap:
            parts.append("tcp dport vmap { " + ", ".join(f"{port} : {to}" for port, to in self.vmap.items()) + " }")
        return " ".join([*parts, self.action])

    def verdict(self, packet: Packet) -> str:
        """The action, or "" when it does not match."""
        if not all(condition.holds(packet) for condition in self.conditions):
            return ""
        return self.vmap.get(packet.knock.port, "") if self.vmap else self.action

    def from_uplink(self) -> "Rule | None":
        """What is left of it for packets of which the interface is known, if anything."""
        known = [condition for condition in self.conditions if condition.about_interface]
        if not all(condition.holds(FROM_UPLINK) for condition in known):
            return None
        return Rule([condition for condition in self.conditions if condition not in known], self.action, self.vmap)

    def unconditional(self) -> bool:
        return not self.conditions and not self.vmap

    def denies(self) -> bool:
        return self.action.startswith(("drop", "reject"))

    def leads(self) -> bool:
        return bool(self.vmap) or self.action.startswith(("jump", "goto", "return"))


@dataclass
class Base:
    table: "Table"
    name: str
    hook: str
    priority: int
    policy: str


@dataclass
class Table:
    family: str
    name: str
    bases: list[Base]
    chains: dict[str, list[Rule]]

    def text(self) -> str:
        lines = [f"table {self.family} {self.name} {{"]
        # a chain is named before it is jumped to
        lines += [f"\tchain {name} {{ }}" for name in self.chains if name in CHAINS]
        for name, rules in self.chains.items():
            lines.append(f"\tchain {name} {{")
            for base in self.bases:
                if base.name == name:
                    lines.append(f"\t\ttype filter hook {base.hook} priority {base.priority}; policy {base.policy};")
            lines += [f"\t\t{rule.text()}" for rule in rules]
            lines.append("\t}")
        return "\n".join([*lines, "}"])

    def sees(self, knock: Knock) -> bool:
        return self.family == "inet" or (self.family == "ip") == (knock.family == "v4")


class Ruleset:
    def __init__(self, tables: list[Table], uplink_is_known: bool) -> None:
        self.tables, self.uplink_is_known = tables, uplink_is_known

    def text(self) -> str:
        return "\n".join(table.text() for table in self.tables) + "\n"

    def bases(self) -> list[Base]:
        found = [base for table in self.tables for base in table.bases]
        return sorted(found, key=lambda base: (base.hook == "input", base.priority))

    def admits(self, knock: Knock, window: Collection[int] = ()) -> bool:
        """Whoever knocks at a window's port is not denied by what denies the rest."""
        packet = Packet(knock)
        for base in self.bases():
            if not base.table.sees(knock):
                continue
            verdict, way = decide(base, packet)
            denials = self._default_denials(base)[0] if knock.port in window and base.hook == "input" else []
            if verdict == DENY and not any(way in denial for denial in denials):
                return False
            # let in where the denial begins, it gets no mark from there on
            passed = {place(base.table, denial) for denial in denials} & packet.marks.keys()
            if passed:
                packet.mark = next(mark for way, mark in packet.marks.items() if way in passed)
        return True

    def refusals(self) -> set[str]:
        """Parts of the texts of which the error has one, if there is to be an error: too early a denial;
        a chain in which no place serves all who come through it."""
        texts = set()
        for base in self.bases():
            denied, ambiguous = self._default_denials(base)
            if denied and base.hook == "prerouting":
                texts.add("before a packet comes to the input hook")
            if ambiguous and base.hook == "input":
                texts.add("denies some packets, then the rest")
        return texts

    def denied_early(self, window: Collection[int]) -> set[str]:
        """Likewise, for ports at which nobody comes as far as the input hook. That may be told or not: it
        takes rules that are about nothing but ports."""
        texts = set()
        early = [base for base in self.bases() if base.hook == "prerouting"]
        for family, port in itertools.product(FAMILIES, window):
            knocks = [Knock(visitor, family, port) for visitor in VISITORS]
            if any(all(base.table.sees(k) and decide(base, Packet(k))[0] == DENY for k in knocks) for base in early):
                texts.add(f"denies port {port}/tcp (IP{family})")
        return texts

    def denies_by_default(self) -> bool:
        return any(self._default_denials(base)[0] for base in self.bases() if base.hook == "input")

    def _default_denials(self, base: Base) -> tuple[list[list["Way"]], bool]:
        found = [default_denial(base, from_uplink) for from_uplink in (False, True)[: 1 + self.uplink_is_known]]
        return [ways for ways, _ in found if ways], any(ambiguous for _, ambiguous in found)


Way = tuple[tuple[str, int], ...]


def decide(base: Base, packet: Packet) -> tuple[str, Way]:
    """The verdict, and the jumps and the rule that led to it."""

    def walk(chain: str, way: Way) -> tuple[str, Way] | None:
        for number, rule in enumerate(base.table.chains[chain]):
            verdict, here = rule.verdict(packet), (*way, (chain, number))
            packet.marks[here] = packet.mark
            if verdict == "accept":
                return ACCEPT, here
            if verdict.startswith(("drop", "reject")):
                return DENY, here
            if verdict == "return":
                return LEFT, here
            if verdict.startswith("meta mark set "):
                packet.mark = int(verdict.split()[-1])
            if verdict.startswith(("jump ", "goto ")):
                kind, target = verdict.split()
                ended = walk(target, here)
                if ended[0] != LEFT or kind == "goto":
                    return ended
        packet.marks[(*way, (chain, POLICY))] = packet.mark
        return LEFT, (*way, (chain, POLICY))

    packet.marks.clear()
    verdict, way = walk(base.name, ())
    if verdict == LEFT:
        verdict = ACCEPT if base.policy == "accept" else DENY
    return verdict, way


def default_denial(base: Base, from_uplink: bool) -> tuple[list[Way], bool]:
    """The ways, in order, by which a packet is denied that no condition has anything particular to say
    about: the last rule on its way, and before it those right before it that log, or deny some kinds of
    packets. Whether one of the chains on the way is somebody else's, too, and picks out some by itself."""
    picked: list[str] = []
    ways = follow(base, base.name, (), from_uplink, Passed(), picked)
    if not ways or (ways[-1][0] == LEFT and base.policy == "accept") or ways[-1][0] == ACCEPT:
        return [], False
    return [way for _, way in ways], bool(picked)


def place(table: Table, denial: list[Way]) -> Way:
    """Where a denial begins, outside of chains that others come through, too."""
    return tuple(itertools.takewhile(lambda step: not shared(table, step[0]), denial[0]))


@dataclass
class Passed:
    """Rules with conditions that one comes by in a chain: those that deny by the kind of a packet, and
    those that deny or lead anywhere by more than that."""

    by_kind: list[tuple[str, Way]] = field(default_factory=list)
    picks: list[Way] = field(default_factory=list)


def follow(
    base: Base, chain: str, way: Way, from_uplink: bool, passed: Passed, ambiguous: list[str]
) -> list[tuple[str, Way]]:
    """The end of the way without conditions, last, and before it what belongs to the same denial."""
    partial: list[tuple[str, Way]] = []
    for number, rule in enumerate(base.table.chains[chain]):
        here = (*way, (chain, number))
        if from_uplink and not (rule := rule.from_uplink()):
            continue
        if not rule.unconditional():
            kinds_only = all(condition.about_kind for condition in rule.conditions) and not rule.vmap
            if not kinds_only or rule.action == "accept" or rule.leads():
                partial = []
            elif rule.denies():
                partial.append((DENY, here))
                passed.by_kind.append((DENY, here))
            if rule.leads() or (rule.denies() and not kinds_only):
                passed.picks.append(here)
        elif rule.action == "accept":
            return [(ACCEPT, here)]
        elif rule.denies():
            return [*partial, (DENY, here)]
        elif rule.action == "log":
            partial.append((LOGGED, here))
        elif rule.action == "return":
            return [*partial, (LEFT, here)]
        elif rule.leads():
            kind, target = rule.action.split()
            inside = Passed()
            ended = follow(base, target, here, from_uplink, inside, ambiguous)
            passed.by_kind += inside.by_kind
            if ended[-1][0] == LEFT and kind == "jump":
                partial = []
                passed.picks += inside.picks
            elif ended[-1][0] == ACCEPT or not shared(base.table, target):
                passed.picks += inside.picks
                return ended
            else:
                if inside.picks:
                    ambiguous.append(target)
                return [*partial, *inside.by_kind, *ended]
    return [*partial, (LEFT, (*way, (chain, POLICY)))]


def shared(table: Table, chain: str) -> bool:
    uses = 0
    for rules in table.chains.values():
        for rule in rules:
            uses += [rule.action, *rule.vmap.values()].count(f"jump {chain}")
            uses += [rule.action, *rule.vmap.values()].count(f"goto {chain}")
    return uses > 1


class Maker:
    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._priorities: set[int] = set()

    def ruleset(self) -> Ruleset:
        tables = [self._table(number) for number in range(self._random.choice([1, 1, 2, 2, 3, 4]))]
        return Ruleset(tables, self._random.random() < 0.5)

    def window(self) -> list[int]:
        """Its ports."""
        return self._random.sample(PORTS, self._random.choice([1, 1, 2]))

    def _table(self, number: int) -> Table:
        choose, roll = self._random.choice, self._random.random
        family = choose(["inet", "inet", "inet", "ip", "ip6"])
        # a table of a name that iptables uses gets another form of rule
        name = "filter" if family != "inet" and number == 0 and roll() < 0.5 else f"t{number}"
        table = Table(family, name, [], {})
        names = CHAINS[: choose([0, 1, 2, 3, 4])]
        for position, chain in enumerate(names):
            table.chains[chain] = self._rules(family, list(names[position + 1 :]), 4)
        for count in range(choose([1, 1, 1, 2])):
            base = Base(table, f"in{count}", "input", self._priority(), choose(["accept", "drop", "drop"]))
            table.bases.append(base)
            table.chains[base.name] = self._rules(family, list(names), 7)
        if roll() < 0.2:
            table.bases.append(Base(table, "early", "prerouting", self._priority(-190), "accept"))
            # mostly not by default: that is refused
            table.chains["early"] = [self._rule(family, [], conditional=True) for _ in range(2)]
        return table

    def _priority(self, least: int = -400) -> int:
        """Two chains of one priority have no order that the text tells. Before -200 no packet has a
        state."""
        while (priority := self._random.randint(least, 400)) in self._priorities:
            pass
        self._priorities.add(priority)
        return priority

    def _rules(self, family: str, targets: list[str], most: int) -> list[Rule]:
        rules = [self._rule(family, targets) for _ in range(self._random.randint(0, most))]
        if self._random.random() < 0.4:
            rules.append(Rule([], self._random.choice(["drop", "reject", "accept", *(f"jump {t}" for t in targets)])))
        return rules

    def _rule(self, family: str, targets: list[str], conditional: bool = False) -> Rule:
        roll = self._random.random()
        if roll < 0.06 and targets:
            ports = self._random.sample(PORTS, 2)
            return Rule([], "", {port: self._action(targets, MAPPABLE) for port in ports})
        if roll < 0.2 and not conditional:
            # mostly without consequence: what ends every chain would leave nothing to try
            actions = ["counter", "log", "meta mark set 16", *(f"jump {t}" for t in targets * 2)]
            return Rule([], self._random.choice([*actions, "return", *(f"goto {t}" for t in targets)]))
        return Rule(self._conditions(family, self._random.choice([1, 1, 2])), self._action(targets))

    def _action(self, targets: list[str], actions: tuple[str, ...] = ACTIONS) -> str:
        steps = [f"{self._random.choice(['jump', 'goto'])} {target}" for target in targets]
        return self._random.choice([*actions, *steps])

    def _conditions(self, family: str, count: int) -> list[Condition]:
        """Of kinds that go together in a rule."""
        kinds: list[str] = []
        while len(kinds) < count:
            kind = self._random.choice(["from", "from", "port", "interface", "protocol", "state", "mark"])
            if kind not in kinds and not {kind, *kinds} >= {"port", "protocol"}:
                kinds.append(kind)
        return [self._condition(family, kind) for kind in kinds]

    def _condition(self, family: str, kind: str) -> Condition:
        choose = self._random.choice
        negate = self._random.random() < 0.25
        operator = "!= " if negate else ""
        if kind == "from":
            v6 = {"ip": False, "ip6": True}.get(family, self._random.random() < 0.5)
            of, who = ("v6" if v6 else "v4"), self._random.sample(sorted(VISITORS), choose([1, 1, 2]))
            listed = ", ".join(VISITORS[name][v6] for name in who)
            return Condition(
                f"ip{'6' if v6 else ''} saddr {operator}{{ {listed} }}",
                lambda p: p.knock.family == of and (p.knock.visitor in who) != negate,
            )
        if kind == "port":
            ports = self._random.sample(PORTS, choose([1, 2]))
            listed = ", ".join(map(str, ports))
            text = f"tcp dport {operator}{ports[0]}" if len(ports) == 1 else f"tcp dport {operator}{{ {listed} }}"
            return Condition(text, lambda p: (p.knock.port in ports) != negate)
        if kind == "interface":
            name = choose(["lo", "uplink"])
            return Condition(f'iifname {operator}"{name}"', lambda p: (name == "uplink") != negate, about_interface=True)
        if kind == "protocol":
            protocol = choose(["tcp", "udp"])
            return Condition(f"meta l4proto {operator}{protocol}", lambda p: (protocol == "tcp") != negate, True)
        if kind == "state":
            states = choose(["new", "established,related", "invalid"])
            return Condition(f"ct state {states}", lambda p: states == "new")
        mask, value = choose([(16, 16), (48, 16), (0x8000, 0x8000), (16, 0)])
        return Condition(f"meta mark & {mask} == {value}", lambda p: p.mark & mask == value)
