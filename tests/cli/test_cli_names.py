"""Misspelt metrics, dimensions and products are refused with a suggestion before a request is spent."""

from __future__ import annotations

import pytest

from agora_analytics._core.validation.names import closest
from agora_analytics.cli import parsing

MISSPELT = {
    (
        "insights",
        "usage",
        "--metric",
        "userCont",
    ): "--metric='userCont' is not in the catalogue: did you mean userCount?",
    ("insights", "quality", "--metric", "networkDeley"): "did you mean networkDelay?",
    ("insights", "quality", "--product", "native"): "--product='native' is not in the catalogue: did you mean Native?",
    ("insights", "usage-total", "--dimension", "contry"): "did you mean country?",
    ("insights", "usage-total", "--metric", "user_count"): "did you mean userCount?",
    ("insights", "quality-total", "--metric", "audio_freeze_rate"): "did you mean audioFreezeRate?",
    ("insights", "quality-total", "--product", "webRTC"): "did you mean WebRTC?",
    ("realtime", "usage", "--metric", "usercount"): "did you mean userCount?",
    ("realtime", "usage", "--dimension", "OS"): "did you mean os?",
    ("realtime", "quality", "--metric", "videoFreezRate"): "did you mean videoFreezeRate?",
    ("realtime", "usage-top", "--dimension", "devise"): "did you mean device?",
    ("realtime", "quality-top", "--metric", "networkdelay"): "did you mean networkDelay?",
    ("realtime", "quality-top", "--extra-metrics", "usersCount"): "did you mean userCount?",
    ("calls", "statistics", "id", "--metric", "videoFreezeRate"): "did you mean video_freeze_rate?",
    ("calls", "statistics", "id", "--dimension", "networks"): "--dimension='networks' is not in the catalogue",
    ("calls", "freeze", "id", "--metric", "audio_freez_rate"): "did you mean audio_freeze_rate?",
    ("calls", "timeline", "id", "--metric", "userCount"): "did you mean user_count?",
    ("watch", "userCout:Native"): "SERIES='userCout' is not in the catalogue: did you mean userCount?",
    ("watch", "userCount:native"): "SERIES='native' is not in the catalogue: did you mean Native?",
    ("export", "--dry-run", "--datasets", "cals"): "--datasets='cals': did you mean calls?",
    ("export", "--dry-run", "--datasets", "realtime", "--series", "userCont:Native"): "--series='userCont'",
    ("export", "--dry-run", "--datasets", "insights", "--insights", "userCount::contry"): "did you mean country?",
    (
        "export",
        "--dry-run",
        "--datasets",
        "insights",
        "--insights",
        "userCount::hourly",
    ): "--insights='hourly' is not in the catalogue: `agora-analytics metrics dimension` and"
    " `agora-analytics metrics granularity` list the names",
    ("export", "--dry-run", "--datasets", "insights", "--insights", "userCount::1x"): "--insights='1x' is not in",
    ("insights", "usage", "--granularity", "1x"): "--granularity='1x' is not in the catalogue",
    ("insights", "quality", "--granularity", "1H"): "did you mean 1h?",
    ("export", "--dry-run", "--datasets", "statistics", "--statistics", "video_freeze:net"): "video_freeze_rate?",
}


@pytest.mark.parametrize(("arguments", "suggestion"), MISSPELT.items(), ids=lambda one: " ".join(one)[:50])
def test_a_misspelt_name_is_refused_with_a_suggestion_before_a_request_is_sent(run, served, arguments, suggestion):
    before = served.service.counts.total()
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert suggestion in result.err
    assert len(result.err.splitlines()) == 1
    assert served.service.counts.total() == before


def test_the_error_says_where_the_names_are_listed_and_how_to_send_a_new_one(run, bare):
    err = run("realtime", "usage", "--metric", "jitter").err
    assert err == (
        "error: --metric='jitter' is not in the catalogue: `agora-analytics metrics realtime_usage` lists the names;"
        " --allow-unknown sends it as it is\n"
    )
    assert bare("metrics", "realtime_usage").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("insights", "usage", "--metric", "newMetric", "--last", "2d"),
        ("realtime", "usage", "--product", "Flutter"),
        ("calls", "timeline", "CALL", "--metric", "new_metric", "--last", "5h"),
    ],
    ids=" ".join,
)
def test_a_name_that_the_catalogue_does_not_list_can_be_sent(run, served, call_id, arguments):
    before = served.service.counts.total()
    result = run(*(call_id if one == "CALL" else one for one in arguments), "--allow-unknown")
    assert result.code == 1  # the simulated service does not know it either
    assert "is not in the catalogue" not in result.err
    assert served.service.counts.total() > before


def test_a_misspelt_metric_id_or_kind_is_refused_with_a_suggestion(run, bare):
    assert "did you mean app_cpu?" in run("calls", "metrics", "id", "--mids", "appcpu").err
    assert "did you mean quality?" in bare("metrics", "qualiti").err


CHOICES = {
    ("plans", "premum"): "PLAN='premum': did you mean premium? allowed are starter, standard, premium, enterprise",
    ("quota", "--plan", "premum"): "plan='premum': did you mean premium? allowed are starter, standard,",
    ("calls", "search", "--plan", "Enterprize"): "plan='Enterprize': did you mean enterprise?",
    ("export", "data", "--plan", "standart"): "--plan='standart': did you mean standard?",
    ("simulate", "--plan", "starte"): "--plan='starte': did you mean starter?",
    ("demo", "--plan", "starte"): "--plan='starte': did you mean starter?",
    ("calls", "search", "--sort", "worstt"): "--sort='worstt': did you mean worst? allowed are started, lasted,",
    ("calls", "sessions", "id", "--sort", "joind"): "--sort='joind': did you mean joined?",
    ("export", "data", "--format", "parqet"): "--format='parqet': did you mean parquet? allowed are jsonl,",
    ("simulate", "--fault-kinds", "status,rest"): "--fault-kinds='rest': did you mean reset? allowed are status,",
    ("metrics", "qualiti"): "KIND='qualiti': did you mean quality?",
    ("calls", "metrics", "id", "--mids", "appcpu"): "--mids='appcpu': did you mean app_cpu?",
}


@pytest.mark.parametrize(("arguments", "suggestion"), CHOICES.items(), ids=map(" ".join, CHOICES))
def test_a_misspelt_choice_is_refused_with_the_closest_allowed_one(run, served, arguments, suggestion):
    before = served.service.counts.total()
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert suggestion in result.err
    assert len(result.err.splitlines()) == 1
    assert served.service.counts.total() == before


def test_a_plan_is_known_in_any_case(bare):
    assert bare("plans", "Premium").code == 0


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("watch", ":Native"), "SERIES=':Native'"),
        (("watch", ""), "SERIES=''"),
        (("watch", "userCount", ""), "SERIES=''"),
        (("export", "--dry-run", "--datasets", "realtime", "--series", ":Native"), "--series=':Native'"),
    ],
    ids=["product only", "empty", "second empty", "export"],
)
def test_a_series_without_a_metric_is_refused_by_the_name_of_its_option(run, arguments, option):
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert f"{option}: allowed is METRIC:PRODUCT, or METRIC for Native" in result.err


@pytest.mark.parametrize("kind", parsing.CATALOGUE)
def test_every_name_of_the_catalogue_is_accepted_as_it_is(kind):
    for name in parsing.names_of(kind):
        parsing.check_name("--name", name, kind)
        assert closest(name, parsing.names_of(kind)) is not None


@pytest.mark.parametrize(
    ("complete", "typed", "offered"),
    [
        (parsing.list_completion(("calls", "sessions", "metrics")), "", ["calls", "sessions", "metrics"]),
        (parsing.list_completion(("calls", "sessions", "metrics")), "calls,s", ["calls,sessions"]),
        (parsing.list_completion(("calls", "sessions", "metrics")), "calls,c", []),
        (parsing.completion_of(parsing.series_names()), "userCount:W", ["userCount:WebRTC"]),
        (parsing.completion("dimension"), "co", ["country"]),
    ],
)
def test_lists_and_series_are_completed(complete, typed, offered):
    assert complete(typed) == offered
