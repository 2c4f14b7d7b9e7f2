"""One task in full: its facts, arguments, result, output and attempts."""

from __future__ import annotations

from markupsafe import Markup

from nbqueue.dashboard.tables import column as units
from nbqueue.dashboard.task_detail import ATTEMPT_COLUMNS, TaskDetail
from nbqueue.notebook.panel.model_table import Drawing, as_shown
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.failed_call import FailedCall, failure_parts, failure_text
from nbqueue.views.output_lines import output_box
from nbqueue.views.progress_bar import bars_html
from nbqueue.views.result_parts import result_parts
from nbqueue.wire import states


def task_view(task: TaskDetail, drawing: Drawing) -> Markup:
    """Return a task as HTML."""
    back: h.Content = ""
    if drawing.live:
        back = controls.link("‹ all tasks", "back", label="Back to all tasks")
    if not task.state:
        return h.row(back) + h.problem(f"the task {task.id} is no longer in the store")
    parts = [h.row(back), _head(task, drawing.now_ms)]
    if drawing.acts:
        parts.append(_buttons(task))
    if task.progress and task.state != states.COMPLETED:
        parts.append(bars_html(task.progress, end=task.state if task.state in states.FINAL else ""))
    parts.append(_section("Call", h.pre(task.arguments, height=160)))
    if task.failed is not None:
        parts.append(_section("Error", h.join(failure_parts(task.failed._replace(call="")))))
        if drawing.live:
            parts.append(_error_buttons(task, task.failed, drawing.acts))
    elif task.outcome:
        parts.append(_section("Error", h.pre(task.outcome)))
    elif task.result is not None:
        parts.append(_section("Result", h.join(result_parts(task.result, is_named=False))))
    if task.output.lines:
        parts.append(_section("Output", output_box(*task.output)))
    parts.append(_attempts(task, drawing.now_ms))
    return h.join(parts)


def _head(task: TaskDetail, now_ms: int) -> Markup:
    facts: list[h.Content] = [
        h.badge(fmt.task_state(task.state, task.outcome)),
        h.strong(task.type),
        h.code(task.id),
    ]
    for fact in task.facts:
        shown = str(fact.value) if fact.unit == units.TEXT else (
            as_shown(fact.value, fact.unit, now_ms)
        )  # fmt: skip
        facts.append(h.fact(fact.name, shown))
    return h.row(*facts)


def _buttons(task: TaskDetail) -> Markup:
    return h.row(
        *(
            controls.button(
                action.word,
                "task-act",
                label=action.label,
                args={"what": action.name},
                ask=action.question,
            )
            for action in task.actions()
        ),
        gap=6,
    )


def _error_buttons(task: TaskDetail, failed: FailedCall, acts: bool) -> Markup:
    buttons = [controls.copy_button("Copy", failure_text(failed), label="Copy call and error")]
    if acts:
        label = f"Run {failed.call or task.id} in this notebook"
        buttons.append(controls.button("Replay here", "task-replay", label=label))
    return h.row(*buttons, gap=6)


def _attempts(task: TaskDetail, now_ms: int) -> Markup:
    if not task.attempts:
        return h.NOTHING
    rows = [
        [
            h.pale("–") if value is None else as_shown(value, column.unit, now_ms)
            for column in ATTEMPT_COLUMNS
            for value in [getattr(row, column.name)]
        ]
        for row in task.attempts
    ]
    heads = [column.title for column in ATTEMPT_COLUMNS]
    keys = [row.key for row in task.attempts]
    titles = dict(enumerate(heads))
    del titles[1]  # a badge says what it is
    return h.table(
        heads, rows, caption="Attempts that ended", numeric=(0,), keys=keys, titles=titles
    )


def _section(title: str, body: Markup) -> Markup:
    return h.element(
        "div", h.strong(title), body, style="margin-top:8px", data_key=f"section {title}"
    )
