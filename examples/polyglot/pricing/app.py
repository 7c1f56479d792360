"""What a shopping list costs, in Python: the caller and the callee beside it are Rust."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.pricing import Line, Offer, Priced, Refusal_Empty, Refusal_Unknown, Refusal_Withdrawn
from wit_world.imports import rates
from wit_world.imports.rates import Bulk, Rate_Bulk, Rate_Each, Rate_Withdrawn


class Pricing(exports.Pricing):
    def quote(self, lines: list[Line]) -> Offer:
        if not lines:
            raise Err(Refusal_Empty())
        found = [(line, rate_of(line.item)) for line in lines]
        withdrawn = [line.item for line, rate in found if isinstance(rate, Rate_Withdrawn)]
        if withdrawn:
            raise Err(Refusal_Withdrawn(withdrawn))
        priced = [Priced(line, cents(rate, line.count)) for line, rate in found]
        return Offer(priced, sum(each.cents for each in priced))


def rate_of(item: str) -> rates.Rate:
    rate = rates.find(item)
    if rate is None:
        raise Err(Refusal_Unknown(item))
    return rate


def cents(rate: Rate_Each | Rate_Bulk, count: int) -> int:
    match rate:
        case Rate_Each(each):
            return each * count
        case Rate_Bulk(Bulk(each, over, then)):
            return each * min(count, over) + then * max(count - over, 0)
