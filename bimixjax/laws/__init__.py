"""Mixing laws, each written for one target at one observation."""

from bimixjax.laws._law import Coefficient as Coefficient
from bimixjax.laws._law import Law as Law
from bimixjax.laws._law import Point as Point
from bimixjax.laws._law import power as power
from bimixjax.laws.bimix import BiMix as BiMix

LAWS: dict[str, Law] = {law.name: law for law in (BiMix(),)}
