"""Rule 6 without a tar: what Links makes of what it is told of a layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import pytest

from streamerge.errors import FormatError
from streamerge.rules.links import Held, Links, Origin


@dataclass
class Facts:
    """A layer as Links sees it."""

    index: int
    hidden: dict[bytes, int] = field(default_factory=dict)
    hidden_links: dict[bytes, bytes] = field(default_factory=dict)
    devices: set[bytes] = field(default_factory=set)
    shown: set[bytes] = field(default_factory=set)
    directories: set[bytes] = field(default_factory=set)
    killed: set[bytes] = field(default_factory=set)
    whitened: list[bytes] = field(default_factory=list)

    def make_whiteout(self, path: bytes) -> None:
        self.whitened.append(path)

    def shows(self, path: bytes) -> bool:
        return path in self.shown

    def has_directory(self, path: bytes) -> bool:
        return path in self.directories

    def kills(self, path: bytes) -> bool:
        return path in self.killed


def held(links: Links, facts: Facts, *pairs: tuple[bytes, bytes]) -> list[Held]:
    """Hold links in this order, as the layer shows them."""
    made = [Held(path, target, facts.index, 512 * n) for n, (path, target) in enumerate(pairs)]
    facts.shown |= {path for path, _ in pairs}
    for link in made:
        links.hold(link, facts)
    return made


def outcome(links: Links) -> tuple[dict[Origin, bytes], dict[bytes, bytes]]:
    promoted, remaining = links.finish()
    return promoted, {link.path: target for link, target in remaining}


class TestWithinALayer:
    def test_to_what_shows(self) -> None:
        links, facts = Links(), Facts(1, shown={b"t"})
        held(links, facts, (b"l", b"t"), (b"m", b"l"))
        links.settle(facts)
        assert not links.wanting
        assert outcome(links) == ({}, {b"l": b"t", b"m": b"t"})

    def test_to_what_is_hidden(self) -> None:
        links, facts = Links(), Facts(1, hidden={b"t": 99})
        held(links, facts, (b"l", b"t"), (b"m", b"t"))
        links.settle(facts)
        assert links.bound_in(1) == {Origin(1, 99)}
        assert links.bound_in(0) == set()
        assert outcome(links) == ({Origin(1, 99): b"l"}, {b"m": b"l"})

    def test_to_what_will_be_hidden(self) -> None:
        links, facts = Links(), Facts(1)
        held(links, facts, (b"l", b"t"))
        facts.hidden[b"t"] = 99
        links.settle(facts)
        assert outcome(links) == ({Origin(1, 99): b"l"}, {})

    @pytest.mark.parametrize("order", sorted(permutations(range(3))), ids=str)
    def test_chains_in_any_order(self, order: tuple[int, ...]) -> None:
        links, facts = Links(), Facts(1, hidden={b"t": 99})
        pairs = [(b"a", b"t"), (b"b", b"a"), (b"c", b"b")]
        held(links, facts, *(pairs[n] for n in order))
        links.settle(facts)
        first = pairs[order[0]][0]
        assert outcome(links) == ({Origin(1, 99): first}, {path: first for path, _ in pairs if path != first})

    def test_through_hidden_links(self) -> None:
        links, facts = Links(), Facts(1, shown={b"t"}, hidden_links={b"h": b"g", b"g": b"t"})
        held(links, facts, (b"l", b"h"))
        links.settle(facts)
        assert outcome(links) == ({}, {b"l": b"t"})

    def test_to_the_instance_before(self) -> None:
        """A path twice: the link means what stood there when it was listed."""
        links, facts = Links(), Facts(1, hidden={b"t": 10})
        held(links, facts, (b"k", b"t"))
        facts.hidden[b"t"] = 20
        held(links, facts, (b"l", b"t"))
        links.settle(facts)
        assert outcome(links)[0] == {Origin(1, 10): b"k", Origin(1, 20): b"l"}

    @pytest.mark.parametrize(
        "pairs",
        [[(b"a", b"a")], [(b"a", b"b"), (b"b", b"a")], [(b"a", b"b"), (b"b", b"c"), (b"c", b"b")]],
    )
    def test_circles(self, pairs: list[tuple[bytes, bytes]]) -> None:
        links, facts = Links(), Facts(1)
        held(links, facts, *pairs)
        with pytest.raises(FormatError, match="only name each other") as caught:
            links.settle(facts)
        assert (caught.value.path, caught.value.index) == (b"a", 1)

    def test_circles_of_hidden_links(self) -> None:
        links, facts = Links(), Facts(1, hidden_links={b"g": b"h", b"h": b"g"})
        held(links, facts, (b"a", b"g"))
        with pytest.raises(FormatError, match="only name each other"):
            links.settle(facts)

    def test_a_directory(self) -> None:
        links, facts = Links(), Facts(1, directories={b"d"})
        held(links, facts, (b"a", b"d"))
        with pytest.raises(FormatError, match="is a directory"):
            links.settle(facts)

    def test_a_device_makes_it_a_whiteout(self) -> None:
        links, facts = Links(), Facts(1, devices={b"w"})
        held(links, facts, (b"a", b"w"))
        links.settle(facts)
        assert facts.whitened == [b"a"]
        assert outcome(links) == ({}, {})


class TestAcrossLayers:
    def wanting(self, target: bytes = b"t") -> Links:
        links, facts = Links(), Facts(5)
        held(links, facts, (b"l", target), (b"m", target))
        links.settle(facts)
        assert links.wanting
        return links

    def test_shown_by_an_older_one(self) -> None:
        links = self.wanting()
        links.settle(Facts(4))
        links.settle(Facts(3, shown={b"t"}))
        assert not links.wanting
        assert outcome(links) == ({}, {b"l": b"t", b"m": b"t"})

    def test_hidden_in_an_older_one(self) -> None:
        links = self.wanting()
        links.settle(Facts(4, hidden={b"t": 7}))
        assert links.bound_in(4) == {Origin(4, 7)}
        assert outcome(links) == ({Origin(4, 7): b"l"}, {b"m": b"l"})

    def test_through_links_of_an_older_one(self) -> None:
        links = self.wanting()
        links.settle(Facts(4, hidden_links={b"t": b"u"}))
        assert links.wanting
        links.settle(Facts(3, shown={b"t"}, hidden={b"u": 7}))
        assert outcome(links) == ({Origin(3, 7): b"l"}, {b"m": b"l"})

    def test_the_layer_that_turns_it_does_not_kill_the_new_target(self) -> None:
        """The hidden link t -> u is of layer 4, whose whiteout of u acts on older layers but not on its links."""
        links = self.wanting()
        links.settle(Facts(4, hidden_links={b"t": b"u"}, killed={b"u"}))
        links.settle(Facts(3, shown={b"u"}))
        assert outcome(links) == ({}, {b"l": b"u", b"m": b"u"})

    def test_killed_by_a_layer_between(self) -> None:
        links = self.wanting()
        with pytest.raises(FormatError, match="'t', is in no layer that it could see") as caught:
            links.settle(Facts(4, killed={b"t"}))
        assert (caught.value.path, caught.value.index) == (b"l", 5)

    def test_its_own_layer_does_not_kill_it(self) -> None:
        links, facts = Links(), Facts(5, killed={b"t"})
        held(links, facts, (b"l", b"t"))
        links.settle(facts)
        links.settle(Facts(4, shown={b"t"}))
        assert outcome(links) == ({}, {b"l": b"t"})

    def test_entry_and_whiteout_in_the_layer_between(self) -> None:
        links = self.wanting()
        links.settle(Facts(4, shown={b"t"}, killed={b"t"}))
        assert outcome(links)[1] == {b"l": b"t", b"m": b"t"}

    def test_an_older_directory(self) -> None:
        links = self.wanting()
        with pytest.raises(FormatError, match="is a directory") as caught:
            links.settle(Facts(4, directories={b"t"}))
        assert caught.value.index == 5

    def test_an_older_device_is_nothing_to_link_to(self) -> None:
        links = self.wanting()
        with pytest.raises(FormatError, match="in no layer"):
            links.settle(Facts(4, devices={b"t"}, killed={b"t"}))

    def test_nowhere(self) -> None:
        links = self.wanting()
        links.settle(Facts(4))
        with pytest.raises(FormatError, match="in no layer"):
            links.finish()

    def test_a_link_that_is_held_in_an_older_layer(self) -> None:
        links = self.wanting()
        facts = Facts(4, hidden={b"u": 7})
        held(links, facts, (b"t", b"u"))
        links.settle(facts)
        assert outcome(links) == ({Origin(4, 7): b"l"}, {b"m": b"l", b"t": b"l"})

    def test_fresh_links_are_forgotten_with_their_layer(self) -> None:
        links, facts = Links(), Facts(5, hidden={b"x": 3})
        held(links, facts, (b"l", b"x"))
        links.settle(facts)
        older = Facts(4, hidden={b"l": 8})
        held(links, older, (b"m", b"l"))
        links.settle(older)
        assert outcome(links)[0] == {Origin(5, 3): b"l", Origin(4, 8): b"m"}


class TestOrder:
    def test_the_newest_layers_first_survivor_is_promoted(self) -> None:
        links = Links()
        newer, older = Facts(2), Facts(1, hidden={b"t": 7})
        held(links, newer, (b"z", b"t"))
        links.settle(newer)
        held(links, older, (b"a", b"t"))
        links.settle(older)
        assert outcome(links) == ({Origin(1, 7): b"z"}, {b"a": b"z"})

    def test_nothing_held(self) -> None:
        links = Links()
        links.settle(Facts(0))
        assert (links.finish(), links.wanting, links.bound_in(0)) == (({}, []), False, set())
