"""What happens to tools, clients, clocks, models and settings."""

from tests.faults.fault import BACKUPS, KILLS, LIMITS, PROMOTION, QUEUE, SURVIVAL, TOOLS, Fault
from tests.shown import of

WORLD = (
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
        of(
            "integration/test_hooks.py",
            "test_a_repeated_webhook_is_stored_once",
            "test_webhooks_that_are_replayed_at_once_are_stored_once",
        )
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
