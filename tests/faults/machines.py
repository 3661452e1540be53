"""What happens to processes, databases, queues and disks."""

from tests.faults.fault import BACKUPS, KILLS, LIMITS, NETWORK, PROMOTION, QUEUE, SURVIVAL, Fault
from tests.shown import of

MACHINES = (
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
        + of("integration/test_override.py", "test_of_many_who_promote_or_roll_back_at_once_one_does_it"),
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
)
