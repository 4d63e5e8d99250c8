"""The failures that gateways have had, by the numbers of the checklist, and the tests that show each to be
impossible here. `CVES` are those that were given a number.

A test is named by its file below `tests/`, without `test_` and `.py`, and its function without `test_`.
"""

from __future__ import annotations

CVES = {
    "CVE-2026-35030": (
        "an authentication cache that knew the beginning of a token only",
        (
            "security/cves: a_key_is_known_by_the_whole_of_it",
            "policy/tokens: a_token_is_known_by_the_whole_of_it",
            "policy/keys: the_whole_key_counts",
        ),
    ),
    "CVE-2026-35029": (
        "administration that did not look at the role",
        (
            "security/cves: the_role_is_looked_at",
            "security/cves: no_spelling_of_a_path_gets_around_it",
            "app/permissions: every_route_and_every_role",
        ),
    ),
    "CVE-2026-42208": (
        "SQL put together with a client's text",
        (
            "security/cves: no_text_of_a_client_is_sql",
            "security/cves: statements_are_made_of_constants",
            "state/usage: only_names_that_are_known_get_into_a_query",
            "state/responses: ids_and_keys_are_only_values",
        ),
    ),
    "CVE-2025-43859": (
        "chunks that end in something else than CRLF (h11)",
        (
            "security/cves: a_malformed_chunk_is_the_end_of_the_connection",
            "security/cves: a_body_of_two_meanings_is_the_end_of_the_connection",
            "security/cves: a_backends_malformed_chunk_is_no_answer",
            "wire/bodies: what_is_accepted_means_the_same_to_h11",
        ),
    ),
    "CVE-2026-30623": (
        "a request that named the command of an MCP server",
        (
            "security/cves: no_request_starts_a_process",
            "security/cves: processes_are_started_in_one_module_by_the_configuration",
        ),
    ),
}

TABLE = {
    # Framing
    "F1": ("e2e/passthrough: a_character_split_between_reads_arrives_whole",),
    "F2": (
        "api/openai/passthrough: a_stream_cut_in_two_anywhere_is_the_same_stream",
        "api/anthropic/passthrough: a_stream_cut_in_two_anywhere_is_the_same_stream",
        "api/ollama/passthrough: any_split_gives_the_same",
    ),
    "F3": (
        "api/openai/passthrough: any_cuts_and_changes_give_what_a_reader_of_events_would_give",
        "api/anthropic/answer_reader: other_line_ends",
    ),
    "F4": ("api/anthropic/passthrough: every_event_comes_out_as_the_object_it_went_in_as",),
    "F5": (
        "e2e/passthrough: an_event_above_64_kib_passes_whole",
        "e2e/limits: an_event_too_large_ends_the_stream",
    ),
    "F6": ("api/anthropic/answer_writer: each_event_goes_out_when_it_comes",),
    "F7": (
        "net/server: streams_are_chunked_and_an_http_1_0_client_gets_none",
        "e2e/http: response_fields_of_the_backend_stay_there",
    ),
    "F8": ("e2e/passthrough: stream_headers",),
    "F9": ("e2e/passthrough: bytes_after_done_are_dropped",),
    "F10": (
        "api/openai/passthrough: an_error_inside_the_stream_is_the_backend_s",
        "e2e/failing: after_the_first_token_an_error_event_ends_the_stream",
    ),
    "F11": (
        "e2e/keepalive: before_the_first_token",
        "e2e/keepalive: another_target_may_still_answer",
        "e2e/keepalive: a_failure_is_told_inside",
    ),
    # Encoding and passing through
    "E1": ("e2e/http: a_compressed_answer_is_decoded",),
    "E2": ("backends/openai_backend: headers_carry_what_is_configured_and_nothing_else",),
    "E3": ("e2e/http: compressed_request_bodies", "wire/encodings: a_bomb_stops_at_the_limit"),
    "E4": (
        "e2e/http: head_has_the_head_of_get_and_no_body",
        "e2e/http: expect_100_continue",
        "e2e/passthrough: the_model_name_is_spliced_in_place",
    ),
    "E5": (
        "e2e/passthrough: the_request_body_is_byte_exact",
        "e2e/passthrough: the_whole_answer_is_byte_exact",
        "e2e/passthrough: the_stream_is_byte_exact",
    ),
    "E6": ("e2e/http: hop_by_hop_and_private_fields_stay_here",),
    # Usage
    "U1": (
        "e2e/passthrough: usage_that_was_not_asked_for_is_withheld",
        "e2e/passthrough: usage_is_injected_without_losing_other_options",
    ),
    "U2": ("e2e/passthrough: usage_in_any_place_is_counted",),
    "U3": ("e2e/passthrough: zero_stays_zero",),
    "U4": ("api/anthropic/answer_writer: usage_counts_the_input_without_the_cache",),
    "U5": (
        "api/openai/passthrough: usage_counts_wherever_it_comes_and_is_not_added_up",
        "api/canonical: usage_is_the_last_word_and_not_a_sum",
    ),
    "U6": ("e2e/cancelling: it_is_recorded_as_cancelled_and_partial",),
    "U7": ("backends/rescue: true_figures_are_no_estimate",),
    "U8": (
        "policy/budgets: the_answering_model_is_charged",
        "e2e/scenarios_ends: the_books_name_what_answered",
    ),
    # Tool calls
    "T1": ("api/openai/answer_writer: tool_calls_keep_their_indexes_and_say_their_names_once",),
    "T2": ("api/canonical: fragments_of_interleaved_calls_stay_apart",),
    "T3": ("api/anthropic/answer_reader: arguments_that_came_with_the_block_are_not_lost",),
    "T4": (
        "api/openai/requests: an_empty_list_of_tool_calls_is_ignored",
        "api/openai/answer_writer: a_whole_answer_of_calls_only_has_null_content_and_one_of_nothing_has_none"
        "_of_calls",
    ),
    "T5": ("api/openai/answer_reader: fragments_are_forwarded_as_they_come",),
    "T6": ("api/openai/answer_reader: a_stop_after_a_call_means_the_call",),
    "T7": ("api/openai/answer_reader: any_text_comes_out_as_it_went_in",),
    "T8": (
        "api/ollama/answer_reader: any_arguments_become_text_without_loss",
        "api/ollama/answer_writer: arguments_are_always_an_object",
    ),
    # Anthropic
    "A1": ("api/anthropic/answer_writer: the_message_starts_before_anything_else_and_once",),
    "A2": ("api/anthropic/answer_writer: whatever_comes_the_blocks_are_balanced_and_no_text_is_lost",),
    "A3": (
        "api/anthropic/answer_reader: thinking_keeps_its_signature_and_sealed_thinking_stands_alone",
        "api/anthropic/request_writer: thinking_goes_back_only_with_a_proof",
    ),
    "A4": ("api/anthropic/answer_writer: stop_reasons", "api/anthropic/answer_reader: stop_reasons"),
    "A5": (
        "api/anthropic/door: errors_in_the_words_of_the_dialect",
        "api/anthropic/passthrough: a_stream_that_cannot_go_on_ends_with_an_error_event",
    ),
    "A6": ("backends/anthropic_backend: tokens_are_counted_there_without_configured_parameters",),
    # Responses
    "R1": ("api/responses/answer_writer: a_stream_of_text_byte_for_byte",),
    "R2": ("api/responses/answer_writer: any_answer_is_the_same_streamed_whole_and_folded",),
    "R3": (
        "api/responses/answer_writer: how_a_response_ends",
        "api/responses/answer_writer: any_answer_may_fail_anywhere",
    ),
    "R4": ("api/responses/answer_writer: details_of_usage_are_never_left_out",),
    "R5": (
        "api/responses/door: a_response_is_stored_unless_the_client_does_not_want_it",
        "state/responses: an_unknown_previous_response_is_the_requests_error",
    ),
    "R6": ("e2e/scenarios: the_next_backend_answers",),
    # Ollama
    "O1": (
        "api/ollama/door: answers_stream_unless_told_otherwise",
        "api/keepalive: lines_of_json_stay_lines_of_json",
    ),
    "O2": ("api/ollama/answer_writer: durations_are_those_of_the_call_and_add_up",),
    "O3": ("e2e/ollama_door: a_stream_that_breaks_ends_in_an_error_line",),
    "O4": ("e2e/ollama_door: an_empty_request_loads_the_model", "api/ollama/door: a_time_of_nothing_unloads"),
    "O5": ("e2e/ollama_door: the_models",),
    # Cancellation
    "C-queue": (
        "e2e/cancelling_phases: in_the_queue_of_a_backend",
        "e2e/cancelling_phases: in_the_queue_of_a_model",
    ),
    "C-loading": ("e2e/cancelling_phases: while_a_model_is_loaded",),
    "C-waiting": ("e2e/cancelling_phases: waiting",),
    "C-stream": ("e2e/cancelling: the_upstream_is_closed",),
    "C-fetch": ("e2e/images: who_leaves_while_an_image_is_fetched_leaves_nothing",),
    "C-attempts": ("e2e/cancelling_phases: between_two_attempts",),
    "C2": (
        "e2e/sharing: one_that_leaves_does_not_end_it_for_the_other",
        "e2e/sharing: the_call_goes_with_the_last_one",
    ),
    # Time limits
    "TO1": ("e2e/failing: the_limit_that_fired_is_named",),
    "TO2": ("e2e/failing: a_slow_stream_outlives_the_limits_meant_for_its_start",),
    "TO3": ("e2e/scenarios_ends: silence_is_bounded_at_every_endpoint",),
    "TO4": ("e2e/limits: time_passes_only_where_it_should",),
    # Retry and fallback
    "RF1": ("e2e/failing: after_the_first_token_no_other_target_is_asked",),
    "RF2": ("e2e/failing: retry_after_is_honoured", "backends/openai_backend: when_to_try_again"),
    "RF3": ("e2e/failing: a_fault_of_the_request_is_passed_on_and_not_retried",),
    "RF4": (
        "e2e/failing: attempts_are_bounded_and_the_client_told_not_to_multiply_them",
        "e2e/fallbacks: a_circle_of_stand_ins_ends",
        "e2e/breaker: retries_do_not_multiply_an_outage",
    ),
    "RF5": (
        "net/client: a_stale_connection_is_replaced_once",
        "net/client: a_reset_on_a_fresh_connection_is_not_retried_here",
    ),
    "RF6": ("e2e/scenarios_ends: nothing_of_one_provider_is_seen_by_the_next_or_by_the_client",),
    "RF7": ("e2e/failing: a_stream_that_fails_before_its_first_token_moves_on",),
    "RF8": ("api/openai/passthrough: a_whole_answer_with_nothing_in_it_is_none",),
    "RF9": ("api/openai/door: clients_do_not_repeat_what_the_gateway_has_tried",),
    # Breaker and balance
    "B1": ("routing/breaker: what_counts", "e2e/breaker: failing_fast_attracts_no_traffic"),
    "B2": ("routing/breaker: no_history_breaks_it_and_only_one_probe_is_out",),
    "B3": (
        "routing/breaker: cancelled_requests_and_stragglers_say_nothing",
        "e2e/breaker: faults_of_requests_open_nothing",
    ),
    "B4": (
        "e2e/operating: in_flight_returns_to_zero",
        "e2e/cancelling_phases: a_storm_leaves_nothing_behind",
    ),
    "B5": ("e2e/breaker: when_all_are_left_alone_one_is_tried_nevertheless",),
    "B6": (
        "routing/sticky: keys_spread_by_weight_and_match_exactly",
        "routing/prefix: the_whole_request_is_rendered_and_grows_with_the_conversation",
    ),
    "B7": ("routing/lease: what_is_loaded_or_unknown_is_not_waited_for",),
    "B8": (
        "routing/admission: a_swapped_model_is_served_in_batches_and_never_under_a_running_request",
        "backends/gguf: nothing_runs_before_first_use_and_callers_share_one_start",
    ),
    # Limits and authentication
    "L1": (
        "policy/limits: two_hundred_at_once_on_a_hundred_tokens_use_no_more",
        "policy/gcra: reservations_never_overshoot_and_what_is_used_stays_within_every_window",
    ),
    "L2": ("policy/limits: settling_gives_back_charges_and_takes_the_estimate_where_nobody_knows",),
    "L3": (
        "policy/gcra: what_was_not_used_is_all_there_again",
        "cluster/limits: the_slots_of_a_dead_node_are_free_after_its_lease",
    ),
    "L4": (
        "policy/gcra: a_clock_set_back_neither_fills_nor_freezes_a_meter",
        "cluster/link: killed_and_started_again_under_load",
    ),
    "L5": (
        "security/cves: a_key_is_known_by_the_whole_of_it",
        "policy/tokens: a_token_is_known_by_the_whole_of_it",
    ),
    "L6": ("policy/keyhash: a_hash_is_no_key", "e2e/keys: nothing_else_does"),
    "L7": ("security/cves: the_role_is_looked_at", "security/cves: no_text_of_a_client_is_sql"),
    "L8": (
        "policy/tokens: the_algorithm_is_that_of_the_configuration",
        "policy/tokens: an_audience_that_does_not",
        "policy/tokens: times",
        "policy/jwks: a_new_key_is_found_and_an_old_one_forgotten",
    ),
    # Cache
    "K1": ("cache/key: tenant_model_kinds_and_parameters_count", "cache/key: every_parameter_counts"),
    "K2": (
        "cache/answers: what_was_not_finished_is_not_kept",
        "api/recording: no_prefix_of_a_stream_is_kept",
    ),
    "K3": ("api/recording: it_is_the_same_answer_in_every_form",),
    "K4": ("cache/policy: only_deterministic_requests_unless_all_are",),
    # Running it
    "P1": ("e2e/reload: what_is_wrong_changes_nothing", "e2e/reload_often: reloads_under_load"),
    "P2": (
        "e2e/reload: a_changed_backend_is_replaced_and_streams_end_on_the_old_one",
        "e2e/reload: keys",
    ),
    "P4": ("e2e/reload_often: signals_that_pile_up",),
    "P3": ("e2e/operating: a_failed_refresh_keeps_the_models",),
    "P5": (
        "e2e/operating: sigterm_lets_streams_finish",
        "net/server: drain_finishes_what_is_under_way_and_refuses_the_rest",
    ),
    "P6": ("packaging/zipapp: it_serves_without_any_backend",),
    "P7": (
        "e2e/secrets: the_log_of_all_that",
        "observe/log: no_record_holds_a_secret_wherever_it_stands",
        "e2e/operating: metrics_are_bounded_against_made_up_names",
    ),
    "P8": ("e2e/operating: ready_follows_the_backends", "observe/lag: a_blocked_loop_shows"),
    # Security
    "S1": (
        "net/guarded: the_address_that_was_looked_at_is_the_one_connected_to",
        "net/guarded: a_redirect_is_looked_at_like_the_first_address",
        "net/reach: every_spelling_of_an_ipv4_address_is_itself_or_refused",
        "e2e/images: addresses_outside_the_allow_list_are_refused",
        "e2e/images: always_gives_no_backend_an_address",
        "policy/jwks: discovery_leads_nowhere_else",
    ),
    "S2": (
        "security/cves: the_name_of_a_model_is_only_a_name",
        "e2e/http: header_injection_through_the_model_name",
        "e2e/passages: a_path_cannot_lead_elsewhere",
    ),
    "S3": (
        "security/cves: a_malformed_chunk_is_the_end_of_the_connection",
        "e2e/http: malformed_framing_is_refused_and_the_connection_closed",
    ),
    "S4": (
        "admin/admin_guard: a_form_of_any_page_changes_nothing",
        "e2e/operations: a_page_of_another_site_changes_nothing",
    ),
    "S5": ("security/cves: no_request_starts_a_process",),
    "S6": ("security/cves: a_body_leads_nowhere_else", "e2e/keys: each_backend_sees_its_own_secret_only"),
}

BACKENDS = {
    "answers 429 with Retry-After": (
        "e2e/scenarios: the_next_backend_answers",
        "e2e/scenarios_ends: what_was_asked_for_is_waited_for",
    ),
    "answers 429 every time": (
        "e2e/scenarios: when_all_fail_one_error_says_so",
        "e2e/failing: when_all_refuse_the_shortest_wait_is_told",
    ),
    "answers 500 once": ("e2e/scenarios: an_only_backend_is_asked_again",),
    "answers 503": ("e2e/scenarios: the_next_backend_answers",),
    "resets the connection": (
        "e2e/failing: before_the_first_byte_the_next_target_answers",
        "e2e/scenarios_rescue: the_next_backend_goes_on",
    ),
    "never responds": ("e2e/scenarios_ends: the_limit_that_fired_is_named",),
    "gives its first token late": (
        "e2e/scenarios_ends: a_late_first_token_of_the_last_one_is_better_than_none",
    ),
    "cuts the stream": (
        "e2e/scenarios_rescue: the_next_backend_goes_on",
        "e2e/scenarios_rescue: where_nobody_can_go_on_the_client_is_told",
    ),
    "stalls": ("e2e/failing: a_stall_after_tokens_is_broken_at_the_idle_limit",),
    "sends a malformed chunk": (
        "e2e/scenarios_rescue: the_next_backend_goes_on",
        "security/cves: a_backends_malformed_chunk_is_no_answer",
    ),
    "omits its terminator": ("e2e/scenarios_ends: a_finish_without_a_terminator_is_an_end",),
    "says that the context is too long": (
        "e2e/scenarios_ends: a_larger_model_takes_a_prompt_that_is_too_long",
    ),
    "refuses by a content filter": ("e2e/scenarios_ends: a_refused_prompt_goes_to_the_model_named_for_it",),
    "rejects a prefill": ("e2e/scenarios_rescue: who_cannot_go_on_is_passed_over",),
    "flaps": ("e2e/scenarios_ends: clients_do_not_notice_a_backend_that_flaps",),
    "answers 200 with nothing or with HTML": ("e2e/scenarios: the_next_backend_answers",),
    "was not the one asked for": ("e2e/scenarios_ends: the_books_name_what_answered",),
    "repeats its key": ("e2e/secrets: a_backend_that_repeats_its_key",),
}

ELSEWHERE = {
    "C1": "there is no HTTP/2 and HTTP/3 yet, whose streams it is about",
}
"""Of the checklist, what needs a part that is not there, so that it can neither go wrong nor be shown."""
