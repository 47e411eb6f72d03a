"""The sizes of a random grammar; nothing here needs JAX."""

import dataclasses

from hierdiff.errors import Options, option, require

LEAVES = RULES = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrammarConfig(Options):
    """Grammar."""

    depth: int = option(
        4, "levels of the tree below the root; a sequence has branching**depth symbols", least=1, most=20
    )
    vocab: int = option(6, "symbols", least=2, most=65_536)
    rules: int = option(4, "rules a symbol", least=1, most=65_536)
    branching: int = option(2, "children a node", least=2, most=1024)
    sigma: float | tuple[float, ...] = option(
        1.0,
        "spread of the log-weights of a symbol's rules (0: all alike), or, with --no-shared, those of each level from "
        "the root",
        least=0,
        most=1_000_000,
    )
    shared: bool = option(True, "one rule set for every level, or one for each")

    def __post_init__(self):
        super().__post_init__()
        depth, vocab, branching = self.depth, self.vocab, self.branching
        small = branching**depth <= LEAVES and vocab**branching < 2**63
        need = f"branching**depth <= {LEAVES:,} and vocab**branching < 2**63 (branching {branching}, vocab {vocab})"
        require(small, "depth", depth, need)
        most = vocab ** (branching - 1)
        require(self.rules * vocab <= RULES, "rules", self.rules, f"at most {RULES:,} rules of all {vocab:,} symbols")
        why = f"(with vocab {vocab} and branching {branching} more rules would give one tuple two parents)"
        require(self.rules <= most, "rules", self.rules, f"an integer from 1 to {most:,} {why}")
        if isinstance(self.sigma, tuple):
            need = f"one number, or one for each of {depth} levels"
            require(len(self.sigma) == depth, "sigma", self.sigma, need)
            require(not self.shared, "sigma", self.sigma, "one number where one rule set serves every level (--shared)")
