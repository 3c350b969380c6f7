"""The averages of some mixtures, and what lies near to one: a polytope, by linear programs over its weights.

    { r : |r - M' w|_1 / 2 <= reach,  w >= 0,  sum w = 1 },   rows of M the mixtures

With r - M' w = u - v, u, v >= 0, and sum u = sum v as both sides sum to 1, all of it is linear in (r, w, u, v).

Source: linear programs by HiGHS and non-negative least squares by Lawson and Hanson (1974), both of scipy.
"""

import numpy as np
from jaxtyping import Float

from bimixjax._base.records import record

# By how much a limit may be broken: the least that HiGHS takes.
KEPT = 1e-10

# Limits of sums of shares, least <= rows r <= most: rows [k, d], least [k], most [k].
Sums = tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]

# Of a way to the center; what is left of it then is below that.
_HALVINGS = 40


@record
class Hull:
    """The mixtures within a total variation of the averages of some.

    Attributes:
        mixtures: those that are averaged [m, d].
        reach: how far from an average others may be, in total variation; 0 for averages alone.
        center: a mixture of the set that keeps to all other limits too [d].
    """

    mixtures: Float[np.ndarray, "m d"]
    reach: float
    center: Float[np.ndarray, " d"]

    def beyond(self, r: Float[np.ndarray, " d"]) -> float:
        """Compute how far a mixture is from the nearest average, in total variation."""
        m, d = self.mixtures.shape
        found = self._program(np.concatenate([np.zeros(d + m), np.ones(2 * d) / 2]), r, r, reach=np.inf)
        assert found is not None
        return max(float(np.sum(found[d + m :])) / 2, 0.0)

    def missed(self, r: Float[np.ndarray, " d"]) -> float:
        """Compute how far a mixture is from the set by Euclid, up to a constant factor; 0 inside, to rounding.

        As non-negative least squares this is a hundred times faster than `beyond`.
        """
        from scipy.optimize import nnls

        m, d = self.mixtures.shape
        rows = np.zeros((d + 1, m))
        rows[:d], rows[d] = self.mixtures.T, 1.0
        target = np.append(r, 1.0)
        if self.reach > 0:
            # u and v, and what is left of the reach.
            more = np.zeros((d + 2, m + 2 * d + 1))
            more[: d + 1, :m] = rows
            more[:d, m : m + d], more[:d, m + d : -1] = np.eye(d), -np.eye(d)
            more[-1, m : m + d], more[-1, -1] = 1.0, 1.0
            rows, target = more, np.append(target, self.reach)
        return float(nnls(rows, target)[1])

    def cheapest(
        self,
        slope: Float[np.ndarray, " d"],
        lower: Float[np.ndarray, " d"],
        upper: Float[np.ndarray, " d"],
        sums: Sums | None = None,
    ) -> Float[np.ndarray, " d"] | None:
        """Return the mixture of least slope . r in the set and within limits: a vertex. None where there is none.

        Args:
            slope: the cost of each share.
            lower: the least of each share.
            upper: the most of each.
            sums: limits of sums of shares.
        """
        m, d = self.mixtures.shape
        if self.reach == 0 and sums is None and not np.any(lower > 0) and not np.any(upper < 1):
            return self.mixtures[np.argmin(self.mixtures @ slope)]
        found = self._program(np.concatenate([slope, np.zeros(m + 2 * d)]), lower, upper, sums, reach=self.reach)
        return None if found is None else found[:d]

    def drawn_in(self, r: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Move mixtures outside of the set straight towards its center, until they are in it."""
        found = r.copy()
        for row in np.flatnonzero([self.missed(each) > KEPT for each in r]):
            short, long, way = 0.0, 1.0, r[row] - self.center
            for _ in range(_HALVINGS):
                middle = (short + long) / 2
                inside = self.missed(self.center + middle * way) <= KEPT
                short, long = (middle, long) if inside else (short, middle)
            found[row] = self.center + short * way
        return found

    def _program(
        self, costs: np.ndarray, lower: np.ndarray, upper: np.ndarray, sums: Sums | None = None, *, reach: float
    ) -> np.ndarray | None:
        """Minimize costs over (r, w, u, v) with r within limits; None where nothing keeps to them."""
        from scipy.optimize import linprog
        from scipy.sparse import csc_array, eye_array, hstack, vstack

        m, d = self.mixtures.shape
        split = hstack([eye_array(d), csc_array(-self.mixtures.T), -eye_array(d), eye_array(d)])
        whole = np.zeros((2, 3 * d + m))
        whole[0, d : d + m], whole[1, :d] = 1.0, 1.0
        # Where r is given its sum is too, up to rounding.
        whole = whole[: 1 + int(np.isfinite(reach))]
        spread = np.concatenate([np.zeros(d + m), np.ones(d), np.zeros(d)])[None]
        above, most = [spread], [reach]
        if sums is not None:
            rows, least, greatest = sums
            padded = np.concatenate([rows, np.zeros((len(rows), m + 2 * d))], axis=1)
            above, most = [spread, -padded, padded], [reach, *-least, *greatest]
        kept = np.isfinite(most)
        bounds = np.concatenate([np.stack([lower, upper], axis=1), np.tile([0.0, np.inf], (m + 2 * d, 1))])
        found = linprog(
            costs,
            A_eq=vstack([split, csc_array(whole)]).tocsc(),
            b_eq=np.concatenate([np.zeros(d), np.ones(len(whole))]),
            A_ub=csc_array(np.concatenate(above)[kept]) if kept.any() else None,
            b_ub=np.array(most)[kept] if kept.any() else None,
            bounds=bounds,
            method="highs",
            options={"primal_feasibility_tolerance": KEPT, "dual_feasibility_tolerance": KEPT},
        )
        return found.x if found.status == 0 else None
