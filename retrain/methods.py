"""Which method a set's rows can be learned by."""

from collections import Counter
from collections.abc import Iterable, Mapping

from retrain.errors import WrongMethod
from retrain.types import Example, Form, Method, Split


def forms_of(rows: Iterable[Example]) -> Counter[Form]:
    """Count rows by the most that they can teach."""
    return Counter(row.form for row in rows)


def method_for(forms: Mapping[Form, int]) -> Method:
    """Choose by what most rows can teach: pairs, verdicts alone with some answers to learn from, or answers."""
    count = sum(forms.values())
    if 2 * forms.get(Form.SINGLE, 0) > count:
        return Method.KTO
    return Method.DPO if count and 2 * forms.get(Form.PREFERENCE, 0) >= count else Method.SFT


def usual_method(rows: Iterable[Example]) -> Method:
    """Return the method by which a set is learned if nobody chose another."""
    return method_for(forms_of(row for row in rows if row.split is Split.TRAIN))


def check_method(method: Method, forms: Mapping[Form, int]) -> None:
    """Compare a method with the rows to be learned by it.

    Raises:
        WrongMethod: DPO has no pair, or KTO answers of one verdict only.
    """
    pairs = forms.get(Form.PREFERENCE, 0)
    if method is Method.DPO and not pairs:
        raise WrongMethod("method dpo: no row has a rejected answer beside its own; take sft, or kto")
    wanted, unwanted = (forms.get(form, 0) + pairs for form in (Form.SFT, Form.SINGLE))
    if method is Method.KTO and not (wanted and unwanted):
        lacking = "right" if not wanted else "wrong"
        raise WrongMethod(
            f"method kto: no answer was judged {lacking}, and it learns from both; settle some, or take sft"
        )
