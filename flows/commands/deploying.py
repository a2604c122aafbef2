"""The commands that put a generation before users, and that forget one of them."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.terminal import (
    DEFAULT,
    INTERRUPTED,
    Changes,
    ContinueAs,
    Named,
    WarehouseFile,
    app,
    one_message,
    readable,
)
from planners.errors import InvalidInput


@app.command()
def deploy(
    experiment: Named = "quickstart",
    host: Annotated[str, typer.Option(help="Where to listen; by default this machine alone.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A further host name that clients call it by. Repeatable."),
    ] = None,
    waiting: Annotated[
        int, typer.Option(min=1, help="Answers at a time, at most; others are told to try again.")
    ] = 256,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Each request as a line of JSON on standard error.")
    ] = False,
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
    continue_as: ContinueAs = None,
) -> None:  # fmt: skip
    """Put the deployed generation before users: an API like OpenAI's, planning, and feedback.

    Every answer is a trace, written down before its user has it. With a table `[deployment]` in the
    experiment, the next generation learns from them; when it is promoted, it answers. Ctrl-C
    finishes what is under way. Others than this machine need a key: `posterity keys` makes them,
    and the variable `POSTERITY_API_KEYS` may hold some.
    """
    with one_message():
        from flows.experiments.reading import load_experiment
        from flows.generations.begun import as_begun
        from flows.progress import Watch
        from warehouse.places.connect import place_of
        from warehouse.store import Warehouse

        settings, watch = load_experiment(experiment, changes), Watch()
        if continue_as is not None:
            with Warehouse(warehouse, read_only=True) as store:
                settings = as_begun(store, settings, continue_as, changes or ())
        watch.say(f"loading the deployed generation of {settings.id}")
        from flows.web.gateway import put_before_users  # and with it torch, which takes seconds

        where = str(place_of(warehouse).absolute())
        also = list(names or ())
        try:
            put_before_users(where, settings, host, port, also, waiting, json_logs, watch)
        except KeyboardInterrupt:
            watch.say("stopped; every answer that a user has is written down")
            raise typer.Exit(INTERRUPTED) from None


@app.command()
def keys(
    name: Annotated[
        str | None, typer.Argument(help="Whose key; without it, all keys are listed.")
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="It opens the pages too, with every trace on them.")
    ] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Let this client's key open nothing any more.")
    ] = False,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Make a key for a client of the gateway, list them, or revoke one.

    The key is printed once; the warehouse keeps its hash. A gateway that runs knows of it a second
    later. Once a key was made, every client needs one, on this machine too, even after that key is
    revoked.
    """
    with one_message():
        from flows.commands.output import TABLE, write_result
        from flows.web.keys import keys_table, make_key, revoke_key
        from warehouse.places.connect import place_of
        from warehouse.store import Warehouse

        if name is None and (pages or revoke):
            raise InvalidInput("say whose key: posterity keys NAME")
        if pages and revoke:
            raise InvalidInput("--pages is for a new key, --revoke for one that there is")
        if name is None:
            with Warehouse(readable(warehouse), read_only=True) as store:
                write_result(keys_table(store), TABLE)
            return
        if place_of(warehouse).is_new:
            raise InvalidInput(f"there is no warehouse at {warehouse}; name it with --warehouse")
        with Warehouse(warehouse) as store:
            if revoke:
                revoke_key(store, name)
                told = f"the key of {name} opens nothing any more"
            else:
                told = make_key(store, name, pages)
            store.publish()
        typer.echo(told)


@app.command()
def forget(
    user: Annotated[
        str | None, typer.Option(help="A user's name as clients sent it, or its hash.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="A session, in the same ways.")] = None,
    trace: Annotated[str | None, typer.Option(help="One answer, by the id of its trace.")] = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Erase what a user sent and was answered; say which generations learned from it.

    Texts, tokens, prompts, plans and comments are gone from the file and its snapshot, and tasks
    that nobody else has. Ids and hashes stay (table `forgotten`); the weights of generations that
    learned from them stay too, and the view `tainted` names these.
    """
    with one_message():
        from flows.deployment.forgetting import forget as erase
        from flows.progress import Watch
        from flows.web.keys import hashed_name, other_secrets
        from warehouse.places.connect import place_of
        from warehouse.store import Warehouse

        watch = Watch()
        if [user, session, trace].count(None) != 2:
            raise InvalidInput("name one of --user, --session and --trace")
        if not (user or session or trace):
            raise InvalidInput("an empty name is nobody's")
        if place_of(warehouse).is_new:
            Warehouse(warehouse, read_only=True)  # which says that there is none
        with Warehouse(warehouse) as store:
            found = erase(
                store, user=hashed_name(user) if user else (),
                session=hashed_name(session) if session else (),
                trace=trace,
            )  # fmt: skip
        watch.say(f"{found.traces} traces erased")
        if found.tainted:
            watch.say("of all that was ever forgotten:")
        for experiment, generation, learned in found.tainted:
            how = f"learned from {learned} traces" if learned else "descends from one that did"
            watch.say(f"generation {generation} of {experiment} {how}")
        if found.tainted:
            watch.say(
                "`posterity run`, with the experiment's file and --without-forgotten, makes "
                "them anew without; until then their answers are learned on"
            )
        for path in found.left:
            watch.say(f"{path} is a copy of before, and still holds them: delete it")
        if found.at_work:
            watch.say("a gateway is at work: give the command again once it wrote what it answers")
        if trace is None and other_secrets(place_of(warehouse)):
            watch.say(
                "gateways had another POSTERITY_USER_KEY too, or none: give the command again with "
                "that key; answers without one are forgotten by --trace"
            )
        watch.say("reports, exports and pushes of before may hold them too: make them anew")
