from dataclasses import replace

import made_up_analysis as made_up

from bertgrid_tf.report.answer import answer, to_html, to_text


def test_terminal_and_page_say_the_same_sentences():
    for sentence in answer(made_up.complete()):
        page = str(to_html(sentence)).replace("\u00a0", " ")
        for tag in ("strong", "code"):
            page = page.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
        assert page == to_text(sentence).plain


def test_a_name_with_the_letters_of_mark_up_stays_a_name():
    study = made_up.complete()
    for name in ("<b>[bold]x[/]</b>", "a**b", "c:\\models\\"):
        final = replace(study.final, hyperparameters=study.final.hyperparameters.model_copy(update={"model": name}))
        (sentence,) = [one for one in answer(replace(study, final=final)) if one.startswith("Final model")]
        assert f"Final model {name}, epoch" in to_text(sentence).plain
        assert "<b>" not in to_html(sentence)
