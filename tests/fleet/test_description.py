"""What a fleet does is described in values, or in a file; both name what is wrong, and hold no secret."""

from __future__ import annotations

import pytest
from helpers.fleet_service import USERS, app, described

from agora_analytics import Selection, Series
from agora_analytics.export import formats
from agora_analytics.fleet import Account, ExportJob, Fleet, FollowJob, Secret, WatchJob

SECRETS = {"customer_id": Secret(env="ID"), "customer_secret": Secret(env="SECRET")}

FILE = """
name = "prod"
turn = "2m"
store_env = "FLEET_REDIS_URL"
sink_file = "postgres.url"

[accounts.acme]
plan = "enterprise"
customer_id_env = "ACME_ID"
customer_secret_file = "acme.secret"
base_url = "https://api.agora.io"

[[accounts.acme.watch]]
app_id = "0123456789abcdef"
series = ["userCount:WebRTC", { metric = "videoFreezeRate", dimension = "net" }]
name = "web"
back = "10m"
gaps = true

[[accounts.acme.follow]]
app_id = "0123456789abcdef"
with_sessions = true

[[accounts.acme.export]]
name = "history"
app_ids = ["0123456789abcdef"]
start = 2026-11-24T00:00:00Z
end = 2026-11-25T00:00:00Z
datasets = ["calls"]
to = "s3://bucket/history"
"""


def account(**changes) -> Account:
    return Account(**{"name": "acme", "plan": "premium", **SECRETS, **changes})


def export(name: str, to: str = "to") -> ExportJob:
    return ExportJob(name=name, selection=Selection(0, 60, apps=["a"]), to=to)


def written(folder, text: str):
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_a_file_describes_what_values_do(tmp_path):
    fleet = Fleet.from_file(written(tmp_path, FILE))
    (acme,) = fleet.accounts
    watch, follow, export = acme.jobs
    assert (fleet.name, fleet.has_sink) == ("prod", True)
    assert acme.customer_secret == Secret(file=tmp_path / "acme.secret")
    assert acme.base_url == ("https://api.agora.io",)
    assert watch == WatchJob(
        app_id="0123456789abcdef",
        series=[Series("userCount", product="WebRTC"), Series("videoFreezeRate", product="Native", dimension="net")],
        name="web",
        back=600,
        gaps=True,
    )
    assert follow == FollowJob(app_id="0123456789abcdef", with_sessions=True)
    assert export.selection == Selection(1795478400, 1795564800, apps=["0123456789abcdef"], datasets=["calls"])
    assert list(fleet.jobs) == ["acme.watch.web", "acme.follow.9f9f5111f7b27a78", "acme.export.history"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('store_env = "FLEET_REDIS_URL"', "", "store_env or store_file is missing"),
        ('turn = "2m"', 'turn = "2 minutes"', r"turn='2 minutes': allowed are durations like 45s"),
        ('turn = "2m"', "turn = -1", "turn=-1: allowed"),
        ('name = "prod"', "name = 5", "name=5: allowed is a str"),
        ('turn = "2m"', 'trun = "2m"', "unknown trun: did you mean turn"),
        ('plan = "enterprise"', 'plan = "gold"', r"accounts\.acme: .*gold"),
        ('customer_id_env = "ACME_ID"', "", r"accounts\.acme: customer_id_env or customer_id_file is missing"),
        ("customer_secret_file =", "customer_secret =", r"customer_secret \(value not shown\) does not belong here"),
        ('"userCount:WebRTC"', '""', r"accounts\.acme\.watch\[0\], series\[0\]"),
        ("back = ", "bakc = ", r"accounts\.acme\.watch\[0\]: unknown bakc: did you mean back"),
        ("[[accounts.acme.follow]]", "[accounts.acme.follow]", "must be an array of tables"),
        ("start = 2026-11-24T00:00:00Z", "start = 2026-11-24T00:00:00", "has no time zone"),
        ("start = 2026-11-24T00:00:00Z", "", r"export\[0\], start: must be a date-time"),
        ('plan = "enterprise"', "", r"accounts\.acme: plan is missing"),
        ('app_ids = ["0123456789abcdef"]', "", r"export\[0\]: app_ids is missing"),
        ('to = "s3://bucket/history"', "", r"export\[0\]: to is missing"),
        ('datasets = ["calls"]', 'format = "parqet"', r"export\[0\]: format='parqet': allowed are jsonl"),
        ('datasets = ["calls"]', "shard_days = 0", r"export\[0\]: shard_days=0"),
        ('turn = "2m"', "turn = 0", r"fleet\.toml'?: turn=0"),
        ('name = "history"', 'name = "a.b"', r"export\[0\]: name='a\.b': allowed are"),
        ("[accounts.acme]", "[accounts.acme", "cannot be read"),
        ("[accounts.acme]", f"x = {'[' * 5_000}\n[accounts.acme]", "cannot be read"),
        ('name = "prod"', 'name = "a/b"', "name='a/b': allowed are"),
        ('turn = "2m"', "turn = nan", "turn=nan"),
        ('store_env = "FLEET_REDIS_URL"', "store_env = 5", "store: env=5: allowed is a str"),
        ('store_env = "FLEET_REDIS_URL"', 'store_env = ""', "store: env='' is empty"),
        ('sink_file = "postgres.url"', "sink_file = 5", "sink: file=5: allowed is a path"),
        ('sink_file = "postgres.url"', 'sink_file = "~nobody-of-this-name/x"', "no such user's folder"),
        ('name = "web"', "name = false", r"watch\[0\]: name=False: allowed is a str"),
        ('base_url = "https://api.agora.io"', 'base_url = "api.agora.io"', r"accounts\.acme: base_url"),
        ('to = "s3://bucket/history"', 'to = "a"\nformat = "parket"', r"export\[0\]: format='parket': allowed are"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, old, new, match):
    assert old in FILE
    with pytest.raises(ValueError, match=match) as caught:
        Fleet.from_file(written(tmp_path, FILE.replace(old, new)))
    assert "fleet.toml" in str(caught.value)
    assert "acme.secret" not in str(caught.value)


def test_a_relative_folder_of_an_export_begins_at_the_folder_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    text = FILE.replace("s3://bucket/history", "history")
    assert Fleet.from_file(written(tmp_path, text)).jobs["acme.export.history"].to == str(tmp_path / "history")


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    path = written(tmp_path, "")
    path.write_bytes(b"\xef\xbb\xbf" + FILE.encode())
    assert Fleet.from_file(path).name == "prod"
    path.write_bytes(b"\xef\xbb\xbfword\r\n")
    assert Secret(file=path).read() == "word"


def test_a_secret_is_read_when_it_is_needed_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("ID", " text\n")
    assert Secret(env="ID").read() == "text"
    assert "text" not in repr(Secret(env="ID"))
    path = tmp_path / "secret"
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        Secret(file=path).read()
    path.write_text("from file\n")
    assert Secret(file=path).read() == "from file"
    path.write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        Secret(file=path).read()
    with pytest.raises(ValueError, match=r"\$NONE is not set"):
        Secret(env="NONE").read()


@pytest.mark.parametrize("given", [{}, {"env": "A", "file": "/b"}])
def test_a_secret_is_in_one_place(given):
    with pytest.raises(ValueError, match="either in an environment variable"):
        Secret(**given)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: account(name="a.b"), "name='a.b'"),
        (lambda: account(plan="gold"), "gold"),
        (lambda: account(customer_id="id"), "customer_id"),
        (lambda: account(jobs=["watch"]), r"jobs\[0\]='watch'"),
        (lambda: account(jobs=[FollowJob(app_id=app(1)), FollowJob(app_id=app(1))]), "is there twice"),
        (lambda: WatchJob(app_id=app(1), series=[]), "at least one"),
        (lambda: WatchJob(app_id=app(1), series=[USERS], every=5), "every=5"),
        (lambda: WatchJob(app_id=app(1), series=[USERS, USERS]), "is there twice"),
        (lambda: FollowJob(app_id=app(1), back=-1), "back=-1"),
        (lambda: ExportJob(name="x", selection=Selection(0, 60), to="", format="csv"), "to=''"),
        (lambda: ExportJob(name="x", selection=Selection(0, 60), to="a", every=1), "every=1"),
        (lambda: ExportJob(name="x", selection=Selection(0, 99_999_999_999, apps=["a"]), to="a"), "165344 shards"),
        (lambda: account(base_url=[]), "base_url"),
        (lambda: Secret(env=5), "env=5"),
        (lambda: Fleet(account(), store="memory://", name="a.b"), "name='a.b'"),
        (lambda: Fleet(account(), account(), store="memory://"), "'acme' is there twice"),
        (lambda: Fleet(account(jobs=[export("x"), export("y", "to/")]), store="memory://"), "the same `to`"),
        (lambda: Fleet(account(), store=""), "store=''"),
        (lambda: Fleet(account(), store="memory://", turn=0), "turn=0"),
    ],
)
def test_a_description_that_cannot_work_is_refused(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()


def test_a_check_says_what_is_missing_and_what_watches_cost(monkeypatch):
    monkeypatch.setenv("FLEET_ID_0", "customer0")
    fleet = Fleet(*described(1, "http://127.0.0.1:1"), store="memory://")
    (found,) = fleet.check().accounts
    assert not found.ok
    assert found.missing == ("the secret $FLEET_SECRET_0 is not set",)
    monkeypatch.setenv("FLEET_SECRET_0", "secret0")
    (found,) = fleet.check().accounts
    assert found.ok
    assert found.jobs == {"watch": 1}
    assert found.coverage.requests_per_poll == 1


def test_a_check_finds_a_secret_that_cannot_be_a_credential(monkeypatch):
    monkeypatch.setenv("ID", "x")
    monkeypatch.setenv("SECRET", "first line\nsecond")
    (found,) = Fleet(account(), store="memory://").check().accounts
    assert not found.ok
    assert found.missing == (
        "the secret $SECRET: customer_secret has spaces or control characters in it (value not shown)",
    )


def test_a_check_finds_the_secrets_of_store_and_sink_too(monkeypatch):
    monkeypatch.setenv("ID", "x")
    monkeypatch.setenv("SECRET", "y")
    fleet = Fleet(account(), store=Secret(env="STORE"), sink=Secret(env="SINK"))
    found = fleet.check()
    assert not found.ok
    assert [(one.ok, one.missing) for one in found.accounts] == [(True, ())]
    assert found.missing == ("the secret $STORE is not set", "the secret $SINK is not set")
    monkeypatch.setenv("STORE", "memory://")
    monkeypatch.setenv("SINK", "postgresql://localhost")
    found = fleet.check()
    assert found.ok


def test_a_plan_without_real_time_requests_is_refused_with_the_name_of_the_account():
    with pytest.raises(ValueError, match=r"account 'acme': plan='standard' does not include"):
        Fleet(account(plan="standard", jobs=[WatchJob(app_id=app(0), series=[USERS])]), store="memory://").check()


def test_watches_that_a_plan_does_not_carry_together_are_found(monkeypatch):
    monkeypatch.setenv("ID", "x")
    monkeypatch.setenv("SECRET", "y")
    jobs = [WatchJob(app_id=app(number), series=[USERS]) for number in range(13)]
    (found,) = Fleet(account(jobs=jobs), store="memory://").check().accounts
    assert not found.ok
    assert not found.coverage.complete
    assert found.coverage.max_requests_per_poll == 12


def test_a_check_names_what_this_host_lacks_for_exports(monkeypatch):
    monkeypatch.setenv("ID", "x")
    monkeypatch.setenv("SECRET", "y")
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    jobs = [
        ExportJob(name=f"e{number}", selection=Selection(0, 60, apps=[app(1)]), to=f"data{number}", format="parquet")
        for number in range(2)
    ]
    (found,) = Fleet(account(jobs=jobs), store="memory://").check().accounts
    assert [text.partition(":")[0] for text in found.missing] == ["format='parquet' needs pyarrow"]
    assert not found.ok


def test_a_check_names_what_this_host_lacks_for_all_accounts(monkeypatch):
    monkeypatch.setenv("ID", "x")
    monkeypatch.setenv("SECRET", "y")
    found = Fleet(account(), store="http://user:geheim@host", sink=Secret(env="NO_SINK")).check()
    store, sink = found.missing
    assert "redis" in store
    assert "geheim" not in store
    assert sink == "the secret $NO_SINK is not set"
