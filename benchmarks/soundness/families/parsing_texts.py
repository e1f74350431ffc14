"""The texts of the parser traps, by hand, each beside what it is misread as (`benchmarks.soundness.families.parsing` says what {Y0 12} is)."""

from __future__ import annotations

from dataclasses import dataclass

DECLARED = ("X_0", "X_1")
BOX = "".join(f"(assert (>= X_{i} {{X{i} 0}}))\n(assert (<= X_{i} {{X{i} 16}}))\n" for i in range(2))


@dataclass(frozen=True)
class Text:
    """A property and its misreading, behind declarations and (unless `own`) the box of all places. `misreading` goes on after "a verifier for
    which". `edge`: it is decided exactly at the optimum, or a hair beside it. `order`: in which names are declared, if not X_0 X_1 Y_0 ..."""

    name: str
    sat: bool
    misreading: str
    right: str
    wrong: str
    outputs: int = 4
    own: bool = False
    edge: bool = False
    nested: bool = False
    order: tuple[str, ...] = ()

    def whole(self, body: str) -> str:
        """With declarations and box."""
        names = self.order or (*DECLARED, *(f"Y_{j}" for j in range(self.outputs)))
        declared = "".join(f"(declare-const {name} Real)\n" for name in names)
        return declared + ("" if self.own else BOX) + body


def at_least(j: int, place: int) -> str:
    """Y_j is at or above its value at a place."""
    return f"(>= Y_{j} {{Y{j} {place}}})"


def at_most(j: int, place: int) -> str:
    """Y_j is at or below its value at a place."""
    return f"(<= Y_{j} {{Y{j} {place}}})"


def right_of(i: int, place: int) -> str:
    """X_i is at or above a place."""
    return f"(>= X_{i} {{X{i} {place}}})"


def left_of(i: int, place: int) -> str:
    """X_i is at or below a place."""
    return f"(<= X_{i} {{X{i} {place}}})"


def both(*parts: str) -> str:
    """(and ...)"""
    return f"(and {' '.join(parts)})"


def either(*parts: str) -> str:
    """(or ...)"""
    return f"(or {' '.join(parts)})"


def asserted(*parts: str) -> str:
    """One assert a line."""
    return "".join(f"(assert {part})\n" for part in parts)


def within(i: int, low: int, high: int) -> str:
    """X_i between two places; two atoms."""
    return f"{right_of(i, low)} {left_of(i, high)}"


NEVER = asserted(at_least(0, 12), at_most(0, 4))
HIGH = either(both(at_least(0, 12)), both(at_least(1, 12)))
LOW = either(both(at_most(0, 4)), both(at_most(1, 4)))
LOW_CROSSED = either(both(at_most(1, 4)), both(at_most(0, 4)))
STRUCTURE = (
    Text("or_then", False, "a constraint behind an `or` is one more alternative", asserted(HIGH, at_most(0, 2), at_most(1, 2)),
         asserted(either(both(at_least(0, 12)), both(at_least(1, 12)), both(at_most(0, 2)), both(at_most(1, 2))))),
    Text("or_then", True, "of an `or` with a constraint behind it only the first alternative is kept", asserted(HIGH, at_most(0, 2)),
         asserted(at_least(0, 12), at_most(0, 2))),
    Text("or_dropped", False, "a constraint behind an `or` is dropped",
         asserted(either(both(at_least(0, 6)), both(at_least(1, 6))), at_most(0, 2), at_most(1, 2)),
         asserted(either(both(at_least(0, 6)), both(at_least(1, 6))))),
    Text("or_dropped", True, "a constraint behind an `or` takes the place of it, of both its alternatives",
         asserted(HIGH, left_of(0, 4), at_least(1, 8)),
         asserted(left_of(0, 4), at_least(0, 8))),
    Text("or_last", False, "an `or` overwrites the constraints before it", asserted(at_most(0, 2), at_most(1, 2), HIGH), asserted(HIGH)),
    Text("or_last", True, "constraints before an `or` hold the alternatives for one output only", asserted(at_most(0, 2), HIGH),
         asserted(at_most(0, 2), at_least(0, 12))),
    Text("or_product", False, "two `or`s are joined to one",
         asserted(HIGH, either(both(at_most(0, 2), at_most(1, 2)), both(at_most(0, 8), at_most(1, 8), at_least(0, 4)))),
         asserted(either(both(at_least(0, 12)), both(at_least(1, 12)), both(at_most(0, 2), at_most(1, 2))))),
    Text("or_product", True, "of two `or`s the first alternatives belong together, and the second ones", asserted(HIGH, LOW),
         asserted(either(both(at_least(0, 12), at_most(0, 4)), both(at_least(1, 12), at_most(1, 4))))),
    Text("or_three", False, "of three `or`s the last is dropped",
         asserted(HIGH, LOW, either(both(at_least(0, 6), at_most(0, 10)), both(at_least(1, 6), at_most(1, 10)))), asserted(HIGH, LOW)),
    Text("or_three", True, "only the first alternatives of three `or`s belong together", asserted(HIGH, LOW, LOW_CROSSED),
         asserted(at_least(0, 12), at_most(0, 4), at_most(1, 4))),
    Text("or_single", False, "an `or` with one alternative constrains nothing", asserted(either(both(at_least(0, 12), at_most(0, 4)))),
         asserted(at_least(0, 0))),
    Text("or_single", True, "an `or` with one alternative holds nowhere", asserted(either(both(at_least(0, 12)))), NEVER),
    Text("or_bare", False, "alternatives that are no `and` are ignored",
         asserted(either(at_least(0, 12), at_least(1, 12)), at_most(0, 4), at_most(1, 4)),
         asserted(at_most(0, 4), at_most(1, 4))),
    Text("or_bare", True, "an `or` of plain comparisons is an `and`", asserted(either(at_least(0, 12), at_least(1, 12)), at_most(0, 4)),
         asserted(at_least(0, 12), at_least(1, 12), at_most(0, 4))),
    Text("and_any", False, "one comparison of an `and` is enough",
         asserted(either(both(at_least(0, 12), at_most(0, 4)), both(at_least(1, 12), at_most(1, 4)))),
         asserted(either(at_least(0, 12), at_most(0, 4), at_least(1, 12)))),
    Text("and_any", True, "every alternative must be possible",
         asserted(either(both(at_least(0, 12), at_most(1, 4)), both(at_least(1, 12), at_most(1, 4)))),
         asserted(at_least(0, 12), at_least(1, 12), at_most(1, 4))),
    Text("and_top", False, "of an `and` only the first part is read", asserted(both(at_least(0, 12), at_most(0, 4))), asserted(at_least(0, 12))),
    Text("and_top", True, "the parts of an `and` are read the wrong way round", asserted(both(at_least(0, 12), at_most(1, 4)), right_of(0, 10)),
         asserted(both(at_most(0, 12), at_least(1, 4)), right_of(0, 14))),
    Text("and_box", False, "of an `and` of bounds only the first is read",
         asserted(both(left_of(0, 16), right_of(0, 0), left_of(0, 4)), at_least(0, 8)), asserted(at_least(0, 8))),
    Text("or_middle", True, "the last alternative decides",
         asserted(either(*(both(at_least(0, k + 2), at_most(0, k)) for k in range(5)), both(at_least(0, 8), at_most(0, 12)),
                         *(both(at_least(1, k + 2), at_most(1, k)) for k in range(5)))),
         asserted(at_least(1, 6), at_most(1, 4))),
    Text("or_middle", False, "in long alternatives the last comparison is dropped",
         asserted(either(*(both(at_least(0, k), at_least(1, k), at_most(1, k - 2)) for k in range(2, 10)))),
         asserted(either(*(both(at_least(0, k), at_least(1, k)) for k in range(2, 10))))),
    Text("or_many", True, "of every `or` the last alternative is dropped",
         asserted(*(either(*(both(at_least(j, 4 * k + m), at_most(j, 4 * k + m)) for k in range(4))) for j, m in ((0, 1), (1, 2))),
                  at_least(0, 13), at_least(1, 14)),
         asserted(*(either(*(both(at_least(j, 4 * k + m), at_most(j, 4 * k + m)) for k in range(3))) for j, m in ((0, 1), (1, 2))),
                  at_least(0, 13), at_least(1, 14)), edge=True),
    Text("or_many", False, "two `or`s with many alternatives are one",
         asserted(*(either(*(both(at_least(0, 4 * k + m), at_most(0, 4 * k + m + 1)) for k in range(4))) for m in (0, 2))),
         asserted(either(*(both(at_least(0, 4 * k), at_most(0, 4 * k + 1)) for k in range(4))))),
    Text("nested_or", False, "an `or` within an `and` belongs to the `or` around it",
         asserted(either(both(at_least(0, 12), either(at_most(0, 4), at_most(0, 8))), both(at_least(1, 12), at_most(1, 4)))),
         asserted(either(at_least(0, 12), at_most(0, 4), both(at_least(1, 12), at_most(1, 4)))), nested=True),
    Text("nested_or", True, "an `or` within an `and` is an `and`", asserted(both(at_least(0, 12), either(at_most(0, 4), at_least(1, 12)))),
         asserted(both(at_least(0, 12), at_most(0, 4), at_least(1, 12))), nested=True),
    Text("nested_and", False, "an `and` within an `and` is one of several alternatives",
         asserted(both(at_least(0, 12), both(at_most(0, 4), at_least(1, 0)))),
         asserted(either(at_least(0, 12), both(at_most(0, 4), at_least(1, 0)))), nested=True),
)  # fmt: skip

SIDE = within(1, 0, 16)
BOXES = (
    Text("boxes_last", True, "the box of the last alternative is that of all",
         asserted(either(both(within(0, 8, 16), SIDE, at_least(0, 12)), both(within(0, 0, 4), SIDE, at_least(0, 12)))),
         asserted(within(0, 0, 4).replace(") (", "))\n(assert ("), right_of(1, 0), left_of(1, 16), at_least(0, 12)), own=True),
    Text("boxes_last", False, "the box of the last alternative is that of all",
         asserted(either(both(within(0, 0, 4), SIDE, at_least(0, 12)), both(within(0, 8, 16), SIDE, at_most(0, 6)))),
         asserted(right_of(0, 8), left_of(0, 16), right_of(1, 0), left_of(1, 16), either(at_least(0, 12), at_most(0, 6))), own=True),
    Text("boxes_first", True, "the box of the first alternative is that of all",
         asserted(either(both(within(0, 0, 4), SIDE, at_least(0, 12)), both(within(0, 8, 16), SIDE, at_least(0, 12)))),
         asserted(right_of(0, 0), left_of(0, 4), right_of(1, 0), left_of(1, 16), at_least(0, 12)), own=True),
    Text("boxes_hull", False, "alternatives share the smallest box around all of theirs",
         asserted(either(both(within(0, 0, 4), SIDE, at_least(0, 8)), both(within(0, 12, 16), SIDE, at_most(0, 8)))),
         asserted(right_of(0, 0), left_of(0, 16), right_of(1, 0), left_of(1, 16), either(at_least(0, 8), at_most(0, 8))), own=True),
    Text("boxes_inner", False, "bounds of inputs within an alternative are ignored",
         asserted(either(both(left_of(0, 4), at_least(0, 8)), both(right_of(0, 12), at_most(0, 8)))),
         asserted(either(at_least(0, 8), at_most(0, 8)))),
    Text("boxes_inner", True, "bounds of inputs within an alternative hold for all",
         asserted(either(both(left_of(0, 4), at_most(0, 2)), both(right_of(0, 12), at_least(0, 14)))),
         asserted(left_of(0, 4), right_of(0, 12), either(at_most(0, 2), at_least(0, 14)))),
    Text("boxes_apart", False, "an `or` of boxes is the smallest box around them",
         asserted(either(both(within(0, 0, 4), SIDE), both(within(0, 12, 16), SIDE)), at_least(0, 7), at_most(0, 9)),
         asserted(right_of(0, 0), left_of(0, 16), right_of(1, 0), left_of(1, 16), at_least(0, 7), at_most(0, 9)), own=True),
    Text("boxes_apart", True, "of an `or` of boxes the first is read",
         asserted(either(both(within(0, 0, 4), SIDE), both(within(0, 12, 16), SIDE)), at_least(0, 14)),
         asserted(right_of(0, 0), left_of(0, 4), right_of(1, 0), left_of(1, 16), at_least(0, 14)), own=True),
    Text("boxes_empty", True, "one empty box makes all empty",
         asserted(either(both(right_of(0, 12), left_of(0, 4), at_least(0, 0)), both(left_of(0, 4), at_most(0, 2)))),
         asserted(right_of(0, 12), left_of(0, 4), at_least(0, 0))),
    Text("boxes_empty", False, "ends of a box are put into order",
         asserted(either(both(right_of(0, 12), left_of(0, 4), at_least(0, 0)), both(left_of(0, 4), at_least(0, 8)))),
         asserted(either(both(right_of(0, 4), left_of(0, 12), at_least(0, 0)), both(left_of(0, 4), at_least(0, 8))))),
    Text("boxes_none", False, "ends of a box are put into order", asserted(right_of(0, 12), left_of(0, 4), at_least(0, 0)),
         asserted(right_of(0, 4), left_of(0, 12), at_least(0, 0))),
    Text("boxes_point", True, "a box of no width is empty", asserted(right_of(0, 8), left_of(0, 8), at_least(0, 7)),
         asserted(right_of(0, 9), left_of(0, 8), at_least(0, 7))),
    Text("boxes_point", False, "equal bounds are no bounds", asserted(right_of(0, 8), left_of(0, 8), at_least(0, 9)), asserted(at_least(0, 9))),
    Text("boxes_points", True, "a box of no width is empty",
         asserted(right_of(0, 8), left_of(0, 8), right_of(1, 4), left_of(1, 4), at_least(0, 7), at_least(1, 3)), NEVER),
    Text("bounds_last", False, "of two bounds the last one holds", asserted(left_of(0, 4), left_of(0, 12), at_least(0, 8)),
         asserted(left_of(0, 12), at_least(0, 8))),
    Text("bounds_first", False, "of two bounds the first one holds", asserted(left_of(0, 12), left_of(0, 4), at_least(0, 8)),
         asserted(left_of(0, 12), at_least(0, 8))),
    Text("bounds_lower", False, "of two bounds the last one holds", asserted(right_of(0, 12), right_of(0, 4), at_most(0, 8)),
         asserted(right_of(0, 4), at_most(0, 8))),
    Text("bounds_inner", False, "bounds within an alternative take the place of those outside",
         asserted(left_of(0, 4), either(both(left_of(0, 12), at_least(0, 8)), both(left_of(0, 14), at_least(0, 10)))),
         asserted(either(both(left_of(0, 12), at_least(0, 8)), both(left_of(0, 14), at_least(0, 10))))),
    Text("bounds_output", False, "of two bounds of an output the last one holds", asserted(at_least(0, 12), at_least(0, 4), left_of(0, 8)),
         asserted(at_least(0, 4), left_of(0, 8))),
    Text("bounds_twice", True, "what is said twice is a contradiction", asserted(at_least(0, 12), at_least(0, 12)), NEVER),
    Text("bounds_sum", False, "a comparison of several inputs is ignored", asserted("(>= (+ X_0 X_1) {X0 14 + X1 14})", at_most(0, 8)),
         asserted(at_most(0, 8))),
    Text("bounds_mixed", False, "an input in a comparison of outputs is 0", asserted("(<= Y_0 (+ X_0 {Y0 0 - X0 0 - 0.5}))"),
         asserted("(<= Y_0 {Y0 0 - X0 0 - 0.5})")),
    Text("bounds_mixed", True, "an input in a comparison of outputs is 0", asserted("(>= Y_0 (+ X_0 {Y0 16 - X0 16 - 0.5}))"),
         asserted("(>= Y_0 {Y0 16 - X0 16 - 0.5})")),
)  # fmt: skip

EDGES = (
    Text("edge_most", True, ">= is >", asserted("(>= Y_0 {Y0 16})"), asserted("(> Y_0 {Y0 16})"), edge=True),
    Text("edge_most", False, "> is >=", asserted("(> Y_0 {Y0 16})"), asserted("(>= Y_0 {Y0 16})"), edge=True),
    Text("edge_least", True, "<= is <", asserted("(<= Y_1 {Y1 0})"), asserted("(< Y_1 {Y1 0})"), edge=True),
    Text("edge_least", False, "< is <=", asserted("(< Y_1 {Y1 0})"), asserted("(<= Y_1 {Y1 0})"), edge=True),
    Text("edge_left", True, "c <= Y is c < Y", asserted("(<= {Y0 16} Y_0)"), asserted("(< {Y0 16} Y_0)"), edge=True),
    Text("edge_left", False, "c < Y is c <= Y", asserted("(< {Y0 16} Y_0)"), asserted("(<= {Y0 16} Y_0)"), edge=True),
    Text("edge_pair", True, "Y <= Z is Y < Z", asserted(right_of(0, 4), left_of(1, 4), "(<= Y_2 Y_3)"),
         asserted(right_of(0, 4), left_of(1, 4), "(< Y_2 Y_3)"), edge=True),
    Text("edge_pair", False, "Y < Z is Y <= Z", asserted(right_of(0, 4), left_of(1, 4), "(< Y_2 Y_3)"),
         asserted(right_of(0, 4), left_of(1, 4), "(<= Y_2 Y_3)"), edge=True),
    Text("edge_inside", True, "in an alternative >= is >", asserted(either(both(at_least(0, 12), at_most(0, 4)), both("(>= Y_0 {Y0 16})"))),
         asserted(either(both(at_least(0, 12), at_most(0, 4)), both("(> Y_0 {Y0 16})"))), edge=True),
    Text("edge_inside", False, "in an alternative > is >=", asserted(either(both(at_least(0, 12), at_most(0, 4)), both("(> Y_0 {Y0 16})"))),
         asserted(either(both(at_least(0, 12), at_most(0, 4)), both("(>= Y_0 {Y0 16})"))), edge=True),
    Text("edge_equal", True, "two bounds that leave one value leave none", asserted(at_least(0, 8), at_most(0, 8)),
         asserted("(> Y_0 {Y0 8})", at_most(0, 8)), edge=True),
    Text("edge_equal", False, "of two bounds of an output the last one holds", asserted(right_of(0, 9), at_most(0, 8), at_least(0, 8)),
         asserted(right_of(0, 9), at_least(0, 8))),
    Text("digits_hair", False, "numbers have 17 digits", asserted("(>= Y_0 {Y0 16|above})"), asserted("(>= Y_0 {Y0 16})"), edge=True),
    Text("digits_hair", True, "numbers have 17 digits", asserted("(> Y_0 {Y0 16|below})"), asserted("(> Y_0 {Y0 16})"), edge=True),
    Text("digits_low", False, "numbers have 17 digits", asserted("(<= Y_1 {Y1 0|below})"), asserted("(<= Y_1 {Y1 0})"), edge=True),
    Text("digits_low", True, "numbers have 17 digits", asserted("(< Y_1 {Y1 0|above})"), asserted("(< Y_1 {Y1 0})"), edge=True),
)  # fmt: skip

SIGNS = (
    Text("sign_threshold", True, "the sign of a threshold is lost", asserted("(>= Y_1 {Y1 12})"), asserted("(>= Y_1 {- Y1 12})")),
    Text("sign_threshold", False, "the sign of a threshold is lost", asserted("(<= Y_1 {Y1 0 - 1})"), asserted("(<= Y_1 {- Y1 0 + 1})")),
    Text("sign_turned", True, ">= is <=", asserted("(>= Y_0 {Y0 12})", right_of(0, 14)), asserted("(<= Y_0 {Y0 12})", right_of(0, 14))),
    Text("sign_turned", False, "<= is >=", asserted("(<= Y_0 {Y0 12})", right_of(0, 14)), asserted("(>= Y_0 {Y0 12})", right_of(0, 14))),
    Text("minus_output", True, "(- Y) is Y", asserted("(<= (- Y_0) {- Y0 12})"), asserted("(<= Y_0 {- Y0 12})")),
    Text("minus_output", False, "(- Y) is Y", asserted("(>= (- Y_0) {- Y0 0 + 1})"), asserted("(>= Y_0 {- Y0 0 + 1})")),
    Text("minus_number", True, "(- c) is c", asserted("(>= Y_1 (- {- Y1 12}))"), asserted("(>= Y_1 {- Y1 12})")),
    Text("minus_number", False, "(- c) is c", asserted("(<= Y_1 (- {- Y1 0 + 1}))"), asserted("(<= Y_1 {- Y1 0 + 1})")),
    Text("minus_binary", True, "(- a b) is b - a", asserted("(>= (- Y_0 Y_1) {Y0 12 - Y1 4})"), asserted("(>= (- Y_1 Y_0) {Y0 12 - Y1 4})")),
    Text("minus_binary", False, "(- a b) is b - a", asserted("(<= (- Y_0 Y_1) {Y0 0 - Y1 16 - 1})"), asserted("(<= (- Y_1 Y_0) {Y0 0 - Y1 16 - 1})")),
    Text("minus_several", True, "(- a b c) is a - (b - c)", asserted("(<= (- Y_0 Y_1 Y_3) {Y0 0 - Y1 16 - Y3 16 + 1})"),
         asserted("(<= (- Y_0 (- Y_1 Y_3)) {Y0 0 - Y1 16 - Y3 16 + 1})")),
    Text("minus_several", False, "(- a b c) is a - (b - c)", asserted("(>= (- Y_0 Y_1 Y_3) {Y0 16 - Y1 0 - Y3 0 + 1})"),
         asserted("(>= (- Y_0 (- Y_1 Y_3)) {Y0 16 - Y1 0 - Y3 0 + 1})")),
    Text("left_output", True, "c <= Y is Y <= c", asserted("(<= {Y0 12} Y_0)", right_of(0, 14)), asserted("(<= Y_0 {Y0 12})", right_of(0, 14))),
    Text("left_output", False, "c <= Y is Y <= c", asserted("(<= {Y0 12} Y_0)", left_of(0, 8)), asserted("(<= Y_0 {Y0 12})", left_of(0, 8))),
    Text("left_input", True, "c <= X is X <= c", asserted("(<= {X0 12} X_0)", at_least(0, 14)), asserted("(<= X_0 {X0 12})", at_least(0, 14))),
    Text("left_input", False, "c >= X is X >= c", asserted("(>= {X0 4} X_0)", at_least(0, 8)), asserted("(>= X_0 {X0 4})", at_least(0, 8))),
    Text("pair_order", True, "Y >= Z is Z >= Y", asserted(right_of(0, 12), left_of(1, 4), "(>= Y_2 Y_3)"),
         asserted(right_of(0, 12), left_of(1, 4), "(>= Y_3 Y_2)")),
    Text("pair_order", False, "Y <= Z is Z <= Y", asserted(right_of(0, 12), left_of(1, 4), "(<= Y_2 Y_3)"),
         asserted(right_of(0, 12), left_of(1, 4), "(<= Y_3 Y_2)")),
    Text("pair_shifted", True, "a constant beside an output is dropped", asserted(right_of(0, 12), left_of(1, 4), "(<= Y_2 (+ Y_3 {Y2 16 - Y2 0}))"),
         asserted(right_of(0, 12), left_of(1, 4), "(<= Y_2 Y_3)")),
    Text("pair_shifted", False, "a constant is taken to the other side with its sign", asserted("(<= (+ Y_2 {Y2 16 - Y2 0 + 1}) Y_3)"),
         asserted("(<= Y_2 (+ Y_3 {Y2 16 - Y2 0 + 1}))")),
    Text("sum_constant", True, "a constant beside an output is dropped", asserted("(>= (+ Y_0 5.0) {Y0 16 + 1})"), asserted("(>= Y_0 {Y0 16 + 1})")),
    Text("sum_constant", False, "a constant beside an output is dropped", asserted("(<= (+ Y_0 5.0) {Y0 0 + 1})"), asserted("(<= Y_0 {Y0 0 + 1})")),
    Text("sum_repeated", True, "a name that is repeated in a sum counts once", asserted("(>= (+ Y_0 Y_0) {2 Y0 12})"),
         asserted("(>= Y_0 {2 Y0 12})")),
    Text("sum_repeated", False, "a name that is repeated in a sum counts once", asserted("(<= (+ Y_0 Y_0) {Y0 16})"), asserted("(<= Y_0 {Y0 16})")),
    Text("sum_cancelled", True, "of a name that is repeated in a difference the second is lost", asserted("(<= (- Y_0 Y_0) 1.0)", at_least(0, 8)),
         asserted("(<= Y_0 1.0)")),
    Text("sum_cancelled", False, "of a name that is repeated in a difference the second is lost", asserted("(>= (- Y_0 Y_0) 1.0)", at_least(0, 8)),
         asserted("(>= Y_0 1.0)")),
    Text("factor_left", True, "a factor is ignored", asserted("(>= (* 2.0 Y_0) {2 Y0 12})"), asserted("(>= Y_0 {2 Y0 12})")),
    Text("factor_right", False, "a factor behind its output is ignored", asserted("(<= (* Y_0 2.0) {Y0 16})"), asserted("(<= Y_0 {Y0 16})")),
    Text("factor_negative", True, "the sign of a factor is ignored", asserted("(<= (* -1.0 Y_0) {- Y0 12})"), asserted("(<= Y_0 {- Y0 12})")),
    Text("factor_negative", False, "the sign of a factor is ignored", asserted("(>= (* -1.0 Y_0) {- Y0 0 + 1})"), asserted("(>= Y_0 {- Y0 0 + 1})")),
    Text("factor_sum", False, "the factor of a sum belongs to its first term", asserted("(<= (* 2.0 (+ Y_0 Y_2)) {2 Y0 0 + Y2 0 + 1})"),
         asserted("(<= (+ (* 2.0 Y_0) Y_2) {2 Y0 0 + Y2 0 + 1})")),
    Text("factor_sum", True, "the factor of a sum belongs to its first term", asserted("(>= (* 2.0 (+ Y_0 Y_2)) {2 Y0 12 + 2 Y2 12})"),
         asserted("(>= (+ (* 2.0 Y_0) Y_2) {2 Y0 12 + 2 Y2 12})")),
)  # fmt: skip

NUMBERS = (
    Text("number_exponent", True, "exponents are cut off", asserted("(<= Y_0 {Y0 4|e})"), asserted("(<= Y_0 {0.1 Y0 4})")),
    Text("number_exponent", False, "exponents are cut off", asserted("(<= Y_0 {Y0 0 - 1|e-})"), asserted("(<= Y_0 {100 Y0 0 - 100})")),
    Text("number_plus", True, "an exponent with a plus is cut off", asserted("(<= Y_0 {Y0 4|E})"), asserted("(<= Y_0 {0.001 Y0 4})")),
    Text("number_minus", False, "an exponent with a minus is one with a plus", asserted("(<= Y_0 {0.01 Y0 0|e-})"), asserted("(<= Y_0 {100 Y0 0})")),
    Text("number_box", True, "exponents in bounds of inputs are cut off", asserted("(<= X_0 {X0 16|e-})", "(>= X_0 {X0 12|e-})", at_least(0, 12)),
         asserted("(<= X_0 {100 X0 16})", "(>= X_0 {100 X0 12})", at_least(0, 12))),
    Text("number_zeros", True, "a long number is cut off before its point", asserted("(>= Y_1 {Y1 12|zeros})"), asserted("(>= Y_1 {- Y1 12})")),
    Text("number_zeros", False, "a number with many zeros at its end is a large one", asserted("(<= Y_0 {Y0 0 - 1|zeros})"),
         asserted("(<= Y_0 {1000 Y0 0})")),
    Text("number_whole", True, "the sign of a whole number is lost", asserted("(>= Y_1 -1000)"), asserted("(>= Y_1 1000)")),
    Text("number_whole", False, "comparisons with whole numbers are ignored", asserted("(<= Y_1 -1000)"), asserted(at_most(1, 16))),
    Text("number_zero", False, "comparisons with 0 are ignored", asserted("(>= Y_1 -0.0)"), asserted(at_most(1, 16))),
    Text("number_zero", True, "0 is what is missing", asserted("(>= Y_0 0)", at_most(1, 4)), NEVER),
)  # fmt: skip

BELOW = asserted(at_most(0, 4))
LAYOUT = (
    Text("comment_assert", True, "asserts in comments count", f"; {asserted('(>= Y_0 1000)')}{asserted(at_least(0, 12))}",
         asserted("(>= Y_0 1000)", at_least(0, 12))),
    Text("comment_behind", True, "a comment behind an assert counts", f"(assert {at_least(0, 12)}) ; (assert {at_most(0, 4)})\n", NEVER),
    Text("comment_swallows", False, "a comment goes on in the next line",
         f"; the first\n{asserted(at_most(0, 4))}; the second\n{asserted(at_least(0, 12))}",
         asserted(at_most(0, 16))),
    Text("comment_inside", False, "what is behind a comment within an assert is lost",
         f"(assert (and {at_least(0, 12)} ; and (\n  {at_most(0, 4)}))\n",
         asserted(at_least(0, 12))),
    Text("comment_closes", True, "a parenthesis in a comment counts",
         f"(assert (or (and {at_least(0, 12)} {left_of(0, 4)}) ; ))\n  (and {at_least(1, 12)})))\n", asserted(at_least(0, 12), left_of(0, 4))),
    Text("comment_end", False, "a comment without an end of line takes the line before it along",
         f"{asserted(at_least(0, 12), at_most(0, 4))}; the end",
         asserted(at_least(0, 12))),
    Text("lines_or", True, "an `or` ends with its line", f"(assert (or (and {at_least(0, 12)} {at_most(0, 4)})\n  (and {at_least(1, 12)})\n))\n",
         NEVER),
    Text("lines_shared", False, "a line has one assert", f"(assert {at_least(0, 12)})(assert {at_most(0, 4)})\n", asserted(at_least(0, 12))),
    Text("lines_broken", False, "an assert stands on one line", f"{asserted(at_least(0, 12))}(assert\n  (<=\n    Y_0\n    {{Y0 4}}\n  )\n)\n",
         asserted(at_least(0, 12))),
    Text("lines_returns", False, "lines that end with a carriage return are ignored", asserted(at_least(0, 12), at_most(0, 4)).replace("\n", "\r\n"),
         asserted(at_least(0, 0))),
    Text("lines_last", False, "a last line without an end is ignored", asserted(at_least(0, 12), at_most(0, 4)).rstrip("\n"),
         asserted(at_least(0, 12))),
    Text("lines_tabs", False, "words are separated by single blanks", asserted(at_least(0, 12)) + "(assert\t(<=\tY_0\t\t{Y0 4}))\n",
         asserted(at_least(0, 12))),
    Text("lines_blanks", False, "parentheses stand beside words", asserted(at_least(0, 12)) + "( assert  ( <=  Y_0  {Y0 4} ) )\n",
         asserted(at_least(0, 12))),
    Text("lines_empty", True, "an empty line ends the property's `or`",
         f"\n\n(assert (or\n\n  (and {at_least(0, 12)} {at_most(0, 4)})\n\n\n  (and {at_least(1, 12)})))\n\n\n", NEVER),
)  # fmt: skip

LEXICAL = ("X_0", "X_1", *sorted(f"Y_{j}" for j in range(12)))
NAMES = (
    Text("names_declared", True, "outputs are numbered as they are declared", asserted("(>= Y_10 {Y10 4})"), asserted("(>= Y_2 {Y10 4})"),
         outputs=12, order=LEXICAL),
    Text("names_declared", False, "outputs are numbered as they are declared", asserted("(<= Y_10 {Y2 16})"), asserted("(<= Y_2 {Y2 16})"),
         outputs=12, order=LEXICAL),
    Text("names_sorted", True, "outputs are sorted as words", asserted("(>= Y_11 {Y11 4})"), asserted("(>= Y_3 {Y11 4})"), outputs=12),
    Text("names_sorted", False, "outputs are sorted as words", asserted("(<= Y_11 {Y3 16})"), asserted("(<= Y_3 {Y3 16})"), outputs=12),
    Text("names_prefix", True, "Y_11 is Y_1 and a 1", asserted("(>= Y_11 {Y11 4})"), asserted("(>= Y_1 {Y11 4})"), outputs=12),
    Text("names_prefix", False, "Y_11 is Y_1 and a 1", asserted("(<= Y_11 {Y1 16})"), asserted("(<= Y_1 {Y1 16})"), outputs=12),
    Text("names_inputs", True, "inputs are numbered as they are declared", asserted(right_of(0, 12), left_of(1, 4), at_least(0, 12)),
         asserted(right_of(1, 12), left_of(0, 4), at_least(0, 12)), order=("X_1", "X_0", "Y_0", "Y_1", "Y_2", "Y_3")),
    Text("names_inputs", False, "inputs are numbered as they are declared", asserted(right_of(0, 12), left_of(1, 4), at_most(0, 4)),
         asserted(right_of(1, 12), left_of(0, 4), at_most(0, 4)), order=("X_1", "X_0", "Y_0", "Y_1", "Y_2", "Y_3")),
    Text("names_mixed", True, "what is declared first is the input", asserted(right_of(0, 12), at_least(0, 12)), NEVER,
         order=("Y_3", "Y_1", "X_1", "Y_0", "X_0", "Y_2")),
    Text("names_bounds", False, "bounds of inputs are taken in the order in which they stand",
         asserted(left_of(1, 12), left_of(0, 4), at_least(0, 8)),
         asserted(left_of(0, 12), left_of(1, 4), at_least(0, 8))),
)  # fmt: skip
TEXTS: tuple[Text, ...] = (*STRUCTURE, *BOXES, *EDGES, *SIGNS, *NUMBERS, *LAYOUT, *NAMES)
