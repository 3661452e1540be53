"""Every way in which the world fails us, how we stand it, and the tests that show it.

`./run test` runs each small, `./run bench faults` in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.shown import of

KILLS = "integration/test_kills.py"
SURVIVAL = "integration/test_intake_survival.py"
QUEUE = "integration/test_queue.py"
TOOLS = "integration/test_tools.py"
PROMOTION = "integration/test_promotion.py"
BACKUPS = "integration/test_backups.py"
LIMITS = "faults/test_limits.py"
NETWORK = "faults/test_network.py"


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure; `repeats` names the count in `tests.repetitions` that the bench raises.

    `control` are the tests that keep those of `shown_by` from passing whatever happens: the mechanism is off and the
    loss is seen, or nothing is wrong and all goes through. Without any, `no_control` says where that stands instead.
    `bench` has the full counts where that takes long; `lacks` says what nobody has shown.
    """

    number: int
    what: str
    mechanism: str
    injected: str
    shown_by: Sequence[str]
    control: Sequence[str] = ()
    no_control: str = ""
    repeats: str = ""
    bench: str = ""
    lacks: str = ""


FAULTS = (
    Fault(
        1,
        "the server is killed at any instant",
        "the client's id is the key; the answer comes after the commit; who asks again hears the first answer",
        "SIGKILL under eight clients that try again; a COMMIT whose confirmation is lost",
        of(SURVIVAL, "test_nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed")
        + of(NETWORK, "test_a_flag_whose_commit_was_not_confirmed_is_there_once_when_it_is_sent_again"),
        of(SURVIVAL, "test_a_server_that_acknowledged_before_its_commit_would_lose_some"),
        repeats="server_kills",
        bench="kill",
    ),
    Fault(
        2,
        "the power goes",
        "synchronous=FULL, and PostgreSQL's default",
        "strace: a sync lies before each answer",
        of(SURVIVAL, "test_the_answer_comes_after_the_disk_has_the_flag")
        + of("integration/test_db.py", "test_sqlite_waits_for_the_disk_and_checks_foreign_keys"),
        of(SURVIVAL, "test_without_waiting_for_the_disk_the_answer_comes_before"),
        lacks="a disk that forgets what was not synced",
    ),
    Fault(
        3,
        "Redis is away, dies, forgets or comes back empty",
        "the database holds every job; the sweep rings again",
        "SIGKILL and FLUSHALL of Valkey among jobs",
        of(KILLS, "test_jobs_outlive_a_flushed_and_a_killed_valkey", "test_a_running_job_outlives_valkey")
        + of(QUEUE, "test_asking_needs_no_redis", "test_a_message_that_redis_lost_is_sent_again_once")
        + of(SURVIVAL, "test_flags_are_taken_without_redis"),
        no_control="within the first: without a sweep nobody rings again",
        repeats="pending_jobs",
    ),
    Fault(
        4,
        "Redis is slow or half open",
        "intake asks it nothing; elsewhere a timeout of seconds, one try, and the sweep",
        "the fault proxy: late, silent, reset, cut off, answers lost",
        of(NETWORK, "test_what_is_asked_for_meanwhile_is_rung_for_later_and_nobody_waits_twice")
        + of(SURVIVAL, "test_flags_are_taken_while_redis_hangs"),
        of(NETWORK, "test_without_a_fault_the_proxy_is_not_noticed"),
    ),
    Fault(
        5,
        "Redis is full",
        "noeviction; a bell that was not rung is rung later",
        "maxmemory of two megabytes",
        of(LIMITS, "test_jobs_that_found_no_room_in_redis_are_done_once_there_is_some"),
        no_control="within it: the bell was not rung before there was room",
    ),
    Fault(
        6,
        "a worker is killed in mid-training",
        "lease, heartbeat and fence; checkpoints; the work-horse dies with its worker",
        "SIGKILL of worker, work-horse and both",
        of(
            KILLS,
            "test_a_run_whose_worker_is_killed_goes_on_and_publishes_one_adapter_of_the_same_bytes",
            "test_a_job_whose_worker_is_killed_is_done_once_in_effect",
            "test_a_work_horse_dies_with_its_worker_at_once",
        ),
        of(KILLS, "test_without_the_tie_a_work_horse_outlives_its_worker_and_only_the_fence_protects"),
        repeats="killed_trainings",
        bench="kill-training",
    ),
    Fault(
        7,
        "a worker freezes and thaws after its lease",
        "a fence on each write and at publishing",
        "SIGSTOP, SIGCONT",
        of(KILLS, "test_a_worker_that_thaws_after_its_lease_ended_publishes_nothing")
        + of(QUEUE, "test_a_stale_lease_writes_nothing"),
        of(QUEUE, "test_without_the_fence_a_stale_lease_would_write"),
    ),
    Fault(
        8,
        "a worker runs out of memory",
        "a batch is halved; a killed attempt is counted and tried again, then given up with its reason",
        "RLIMIT_AS; SIGKILL of the work-horse",
        of(
            "unit/retrain/test_lora.py",
            "test_a_batch_that_does_not_fit_is_taken_in_halves_of_equal_effect",
            "test_half_a_batch_that_does_not_fit_either_is_named",
            "test_a_lack_of_memory_is_told_from_other_errors",
        )
        + of(QUEUE, "test_a_job_whose_workers_all_die_is_given_up"),
        no_control="within the first: without the limit the same batch is not halved",
    ),
    Fault(
        9,
        "a job always fails, or kills its process",
        "attempts are counted before the run, with rests; then it is dead and says why",
        "a job that raises; workers that die",
        of(
            QUEUE,
            "test_a_poison_job_is_dead_after_all_its_attempts_and_keeps_the_reason",
            "test_each_attempt_waits_twice_as_long_as_the_one_before",
            "test_a_job_whose_workers_all_die_is_given_up",
        ),
        of(QUEUE, "test_a_dead_job_can_be_tried_again"),
    ),
    Fault(
        10,
        "a job hangs",
        "a time limit for each queue",
        "a job that waits for ever",
        of(KILLS, "test_a_job_that_hangs_is_ended_when_its_time_is_over_and_tried_again"),
        of(KILLS, "test_a_cancelled_job_ends_its_process_within_five_seconds"),
    ),
    Fault(
        11,
        "a worker is told to stop",
        "it ends its job, takes no other, exits with 0",
        "SIGTERM to the worker",
        of(KILLS, "test_a_worker_that_is_told_to_stop_ends_its_job_first_and_takes_no_other"),
        of(KILLS, "test_a_job_whose_worker_is_killed_is_done_once_in_effect"),
        lacks="web servers that are restarted in turn under load",
    ),
    Fault(
        12,
        "two workers take one job",
        "one conditional UPDATE leases it",
        "threads that race for it",
        of(
            QUEUE,
            "test_one_of_many_racing_threads_gets_the_lease",
            "test_two_jobs_of_one_key_are_never_at_work_together",
        ),
        of("integration/test_db.py", "test_without_the_hooks_sqlite_loses_updates_without_an_error"),
        repeats="racing_threads",
    ),
    Fault(
        13,
        "two people switch at once",
        "one row a number, and the champion that was seen",
        "threads that promote and roll back, on both databases",
        of(PROMOTION, "test_of_two_promotions_at_the_same_moment_one_wins")
        + of("integration/test_override.py", "test_of_many_rollbacks_of_one_champion_one_is_done"),
        of(
            "integration/test_override.py",
            "test_even_if_nobody_waits_their_turn_the_history_has_one_row_of_each_number",
        ),
        repeats="races",
    ),
    Fault(
        14,
        "what is approved was judged by something else",
        "an approval names all that was seen, and is checked where it is used",
        "criteria, rules, suites, champion, set and evaluation that change in between",
        of(
            PROMOTION,
            "test_an_approval_of_something_else_is_stale",
            "test_what_changes_after_the_approval_makes_it_stale",
            "test_an_approval_does_not_outlive_a_newer_evaluation",
            "test_a_champion_that_changes_after_the_approval_makes_it_stale",
        ),
        of(PROMOTION, "test_an_approved_challenger_becomes_the_champion"),
    ),
    Fault(
        15,
        "a crash while something is published",
        "a draft, synced, then renamed; a manifest last",
        "the nth call to the disk fails, for each n; SIGKILL half way",
        of(LIMITS, "test_whichever_call_to_the_disk_fails_nothing_half_written_has_a_name")
        + of("unit/retrain/test_artifacts.py", "test_a_writer_killed_half_way_leaves_no_object"),
        of(LIMITS, "test_a_store_that_writes_in_place_is_found_out"),
    ),
    Fault(
        16,
        "a bit of an adapter rots, or somebody edits it",
        "its hash is its name, and is looked at whenever it is read",
        "bits flipped anywhere",
        of(LIMITS, "test_each_flipped_bit_of_an_adapter_is_found")
        + of("unit/retrain/test_artifacts.py", "test_altered_content_is_never_handed_out")
        + of(BACKUPS, "test_a_damaged_or_missing_artifact_is_named"),
        no_control="within the first: the sound store is verified",
        repeats="flipped_bits",
    ),
    Fault(
        17,
        "the database's disk is full",
        "507 with Retry-After; nothing has to be restarted",
        "a tmpfs of six megabytes",
        of(SURVIVAL, "test_a_full_disk_refuses_flags_until_there_is_room_again"),
        no_control="within it: the same flag is taken before and after",
    ),
    Fault(
        18,
        "the artifacts' disk is full",
        "room is looked for before a run; a draft that does not fit leaves nothing",
        "RLIMIT_FSIZE; a disk that says it has no room",
        of("unit/retrain/test_lora.py", "test_a_disk_that_cannot_hold_the_run_is_named_before_it_begins")
        + of("integration/test_bad_sets.py", "test_a_full_disk_leaves_no_set")
        + of(
            "unit/retrain/test_artifacts.py",
            "test_a_full_disk_leaves_nothing_and_the_next_attempt_succeeds",
        ),
        no_control="within the last: with room the same is stored",
    ),
    Fault(
        19,
        "no handle is left",
        "a request that gets no connection is refused for now",
        "RLIMIT_NOFILE at what is open",
        of(LIMITS, "test_without_handles_requests_are_refused_and_the_next_are_served"),
        no_control="within it: the same request is granted before and after",
    ),
    Fault(
        20,
        "the database is locked, or read for long",
        "BEGIN IMMEDIATE, a turn for each writer, readers that hold up nobody",
        "another process that writes; a snapshot that stays open",
        of(
            SURVIVAL,
            "test_a_database_that_another_process_writes_to_refuses_soon_and_works_again",
            "test_whoever_reads_long_keeps_nobody_from_flagging",
        )
        + of("integration/test_db.py", "test_no_update_is_lost_when_threads_read_then_write"),
        of("integration/test_db.py", "test_without_the_hooks_sqlite_loses_updates_without_an_error"),
    ),
    Fault(
        21,
        "PostgreSQL restarts, fails over, drops connections",
        "a connection is tried before it is used; what was cut off is 503 and may be sent again",
        "the fault proxy: resets at rest, in mid-transaction, at COMMIT, of new connections",
        of(
            NETWORK,
            "test_connections_that_were_cut_while_nothing_happened_cost_no_flag",
            "test_a_flag_that_was_cut_off_is_refused_for_now_and_taken_when_it_is_sent_again",
            "test_a_flag_whose_commit_was_not_confirmed_is_there_once_when_it_is_sent_again",
            "test_a_database_that_takes_no_connection_is_told_and_comes_back",
        ),
        no_control="within each: the proxy counts what it did, and without a fault the same flag is granted",
    ),
    Fault(
        22,
        "killed during a migration",
        "one transaction; a newer schema is refused",
        "SIGKILL before statements all along, on both databases",
        of(LIMITS, "test_a_migration_that_is_killed_anywhere_leaves_the_old_schema_and_goes_on_later")
        + of("integration/test_db.py", "test_a_newer_schema_is_refused_and_left_alone"),
        of(LIMITS, "test_without_its_transaction_it_would_leave_half_a_schema"),
        repeats="killed_migrations",
    ),
    Fault(
        23,
        "Label Studio is away for hours",
        "tasks wait as rows; rests grow, by chance",
        "a tool that refuses, and a clock that is moved",
        of(
            TOOLS,
            "test_after_an_hour_away_each_task_exists_once_and_nobody_stampedes",
            "test_while_a_tool_is_down_its_tasks_wait_and_the_console_says_why",
            "test_one_tool_being_down_holds_up_no_other",
        ),
        of(TOOLS, "test_without_chance_those_that_failed_together_come_back_together"),
        repeats="waiting_tasks",
    ),
    Fault(
        24,
        "Label Studio makes a task and its answer is lost",
        "it is looked for by our key before it is made",
        "an answer that is swallowed; two processes at once",
        of(
            "integration/test_connectors.py",
            "test_a_lost_answer_makes_no_duplicate",
            "test_label_studio_gets_one_task_from_two_processes_at_once",
        )
        + of(TOOLS, "test_two_polls_after_whatever_happened_we_hold_what_the_tool_holds"),
        of(TOOLS, "test_polls_that_read_nothing_would_be_caught"),
        repeats="tool_stories",
    ),
    Fault(
        25,
        "webhooks are lost",
        "polls with an overlap, and now and then a look at everything",
        "none of them arrives",
        of(
            TOOLS,
            "test_two_polls_after_whatever_happened_we_hold_what_the_tool_holds",
            "test_with_no_webhook_arriving_a_real_tool_is_followed_within_two_polls",
        ),
        of(TOOLS, "test_a_poll_that_sees_no_deletions_would_be_caught"),
        repeats="tool_stories",
    ),
    Fault(
        26,
        "webhooks come twice or are replayed",
        "a key in the inbox",
        "the same again",
        of("integration/test_hooks.py", "test_a_repeated_webhook_is_stored_once")
        + of(TOOLS, "test_an_answer_that_is_sent_again_without_a_change_leaves_its_settlement_alone"),
        of("integration/test_hooks.py", "test_a_later_change_of_the_same_annotation_is_another_event"),
    ),
    Fault(
        27,
        "webhooks come in the wrong order",
        "they are hints: what holds is what the tool says when it is asked",
        "stories in which anything happens in any order",
        of(TOOLS, "test_two_polls_after_whatever_happened_we_hold_what_the_tool_holds"),
        of(TOOLS, "test_polls_that_read_nothing_would_be_caught"),
        repeats="tool_stories",
    ),
    Fault(
        28,
        "a webhook is answered late",
        "it is verified and stored, nothing else",
        "a hundred a second",
        of("integration/test_hooks.py", "test_many_webhooks_ask_for_one_reading")
        + of("integration/test_hooks.py", "test_a_webhook_is_stored_while_redis_is_away"),
        no_control="the bench measures it beside an empty request",
        repeats="hook_seconds",
        bench="hook",
    ),
    Fault(
        29,
        "clocks jump or differ",
        "leases by the database's clock, UTC alone, five minutes of tolerance for signatures",
        "our clock two hours ahead and behind",
        of(LIMITS, "test_by_the_database_s_clock_no_lease_ends_because_ours_jumps")
        + of("integration/test_db.py", "test_a_naive_moment_is_refused")
        + of(
            "integration/test_bad_input.py", "test_a_token_that_is_not_genuine_for_this_response_is_refused"
        ),
        of(LIMITS, "test_by_our_own_clock_it_would"),
        lacks="libfaketime around whole processes",
    ),
    Fault(
        30,
        "the same flag many times",
        "the event's id, and one voice for each subject and response",
        "equal flags at once; a second word of the same subject",
        of(
            "integration/test_intake_api.py",
            "test_many_at_once_with_one_id_are_one",
            "test_one_subject_has_one_voice_on_each_response",
        ),
        of("integration/test_intake_api.py", "test_two_subjects_have_two_voices"),
    ),
    Fault(
        31,
        "a huge, endless or compressed body",
        "bytes are counted while they are read; a coding is refused",
        "a lie about the length, chunks without end, gzip",
        of(
            "integration/test_bad_input.py",
            "test_a_body_over_the_limit_is_refused_whether_announced_or_chunked",
            "test_another_media_type_or_a_compressed_body_is_refused_by_every_route",
        )
        + of("integration/test_web.py", "test_a_chunked_body_is_read_up_to_the_limit_and_no_further")
        + of("integration/test_hooks.py", "test_an_endless_webhook_is_refused"),
        of(
            "integration/test_bad_input.py",
            "test_texts_at_their_limits_and_hostile_ones_are_kept_as_they_are",
        ),
    ),
    Fault(
        32,
        "slow clients",
        "nginx holds requests until they are whole",
        "bodies and headers that trickle",
        of(SURVIVAL, "test_behind_the_shipped_nginx_slow_clients_harm_nobody"),
        of(SURVIVAL, "test_without_it_slow_bodies_keep_everybody_out"),
        repeats="slow_bodies",
        bench="slow",
    ),
    Fault(
        33,
        "a burst of traffic",
        "limits by key, answer, user and network, with Retry-After; who waits too long is refused",
        "more than the limit; a writer that takes long",
        of(
            "integration/test_intake_api.py",
            "test_too_many_are_told_when_to_come_again_and_others_are_not_hindered",
        )
        + of(SURVIVAL, "test_who_waits_in_line_too_long_is_refused_and_the_others_go_on")
        + of("browser/test_widget_delivery.py", "test_a_busy_service_says_when_to_come_back"),
        of("unit/service/test_rates.py", "test_no_limit_is_told_of_where_none_is_set"),
        bench="intake",
    ),
    Fault(
        34,
        "the widget is offline, or its page is closed",
        "an outbox in the page's own storage, keepalive, rests that grow",
        "a browser without a network; a page that is left at once",
        of(
            "browser/test_widget_delivery.py",
            "test_what_was_said_offline_arrives_once_the_network_is_back",
            "test_a_reader_who_leaves_at_once_is_heard",
            "test_two_tabs_send_what_waits_once",
        )
        + of("browser/test_widget.py", "test_a_record_whose_answer_was_lost_is_not_made_twice"),
        of(
            "browser/test_widget.py",
            "test_without_an_outbox_a_service_that_is_down_is_told_and_what_was_written_stays",
        ),
    ),
    Fault(
        35,
        "the serving engine is away, or lies",
        "what is wanted is a row; live is what answers as the approved version did",
        "servers that fail, forget, or keep old weights under the new name",
        of(
            "integration/test_serving.py",
            "test_what_fails_is_tried_again_and_rests_longer_each_time",
            "test_old_weights_under_the_new_name_are_not_live",
            "test_a_vllm_server_that_says_it_loaded_what_it_did_not_is_not_live",
            "test_a_server_that_is_away_keeps_no_other_waiting",
        ),
        of("integration/test_serving.py", "test_it_is_live_once_it_answers_as_it_did_when_it_was_judged"),
    ),
    Fault(
        36,
        "a bad champion is found",
        "a rollback is one more row",
        "the drill",
        of(PROMOTION, "test_a_rollback_brings_back_what_was_live_before")
        + of("integration/test_serving.py", "test_a_rollback_to_the_base_model_is_followed")
        + of("scenarios/test_through_the_service.py", "test_a_rollback_brings_back_the_answers"),
        of(PROMOTION, "test_there_is_nothing_to_roll_back_to_at_first"),
    ),
    Fault(
        37,
        "everything is lost but a backup",
        "online backup, restore, verify",
        "backups under load; damaged and broken-off ones",
        of(
            BACKUPS,
            "test_everything_comes_back_in_either_database_and_a_set_is_built_again",
            "test_flags_come_in_while_a_backup_is_made",
            "test_a_restore_that_broke_off_is_begun_again",
        ),
        of(BACKUPS, "test_a_damaged_backup_is_refused_and_leaves_nothing"),
    ),
    Fault(
        38,
        "the ledger is edited or cut off",
        "a chain of hashes, and heads kept elsewhere",
        "edits, deletions, swaps, insertions, a cut-off end",
        of(
            "integration/test_db.py",
            "test_a_thousand_mutations_are_found",
            "test_removed_newest_entries_show_only_against_a_head_kept_elsewhere",
            "test_the_database_itself_refuses_to_change_history",
        )
        + of(BACKUPS, "test_what_was_cut_off_the_ledgers_end_shows_against_a_backup"),
        of("integration/test_db.py", "test_a_chain_that_nobody_touched_is_intact"),
        repeats="mutations",
    ),
    Fault(
        39,
        "a wrong setting",
        "one line that names it, exit 78",
        "wrong values and unknown names of every kind",
        of(
            "unit/service/test_settings.py",
            "test_a_wrong_value_is_refused_in_one_line_that_names_the_setting",
            "test_the_command_line_refuses_a_wrong_setting_with_one_line_and_its_own_exit_code",
            "test_an_unknown_setting_is_refused_by_name",
        )
        + of("integration/test_up.py", "test_a_busy_port_is_named", "test_a_newer_schema_is_named"),
        of("unit/service/test_settings.py", "test_a_setting_is_read_from_the_environment"),
    ),
    Fault(
        40,
        "memory or handles leak",
        "pools with bounds",
        "requests, one after the other",
        of(LIMITS, "test_requests_leave_neither_handles_nor_threads_behind")
        + of("unit/service/test_rates.py", "test_memory_does_not_grow_with_names"),
        no_control="within the first: one handle more is seen",
        repeats="requests_of_a_soak",
        lacks="hours under load, with the memory's slope",
    ),
    Fault(
        41,
        "a worker lives and does nothing",
        "a job's time limit; a lease that is not extended is taken back by another",
        "a job that waits for ever; a stopped worker",
        of(
            KILLS,
            "test_a_job_that_hangs_is_ended_when_its_time_is_over_and_tried_again",
            "test_a_worker_that_thaws_after_its_lease_ended_publishes_nothing",
        ),
        of(QUEUE, "test_an_extended_lease_is_not_taken_back"),
        lacks="liveness by progress that restarts an idle worker which hears no bell",
    ),
)
