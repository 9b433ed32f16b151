"""The papers' tables and figures: what each shows, and its rows as overrides of its configuration."""

from configs.tables import aar, aunet, glee_net, gtle_net, lac
from jaxau.reproduce import Paper

PAPERS: dict[str, Paper] = {
    module.PAPER.name: module.PAPER for module in (gtle_net, aunet, aar, glee_net, lac)
}
