package server_test

import "net/http"

// timelineCalls are what the page of a run asks beside the run itself.
func timelineCalls() []apiCase {
	return []apiCase{
		{
			name: "no steps", method: "GET", path: "/v1/runs/{ended}?steps_limit=0", as: "key", status: http.StatusOK,
		},
		{
			method: "GET", path: "/v1/runs/{run}/outline", as: "token", status: http.StatusOK,
			want: `{"ids":["{step}","{denied}"],"sequences":[1,2],"types":["MODEL_CALL","TOOL_CALL"],"statuses":["RUNNING","BLOCKED"],` +
				`"models":["gpt-4o",null],"tool_names":[null,"search"],"created_ms":[1795417710123,1795417710123],"durations_ms":[null,null],` +
				`"prompt_tokens":[0,0],"completion_tokens":[0,0],"costs_usd":[null,null],"deny_reasons":[null,"USER_BLOCKED"],` +
				`"inputs":["FEefTofTQP4",null],"next_cursor":null}`,
		},
		{
			method: "GET", path: "/v1/runs/{run}/lines?steps={step},{denied}," + unknownID, as: "key", status: http.StatusOK,
			want: `{"items":[{"step_id":"{step}","input":"hi","output":null,"error":null}]}`,
		},
		{
			method: "GET", path: "/v1/runs/{run}/breakdown", as: "key", status: http.StatusOK,
			want: `{"items":[{"type":"MODEL_CALL","model":"gpt-4o","tool_name":null,"step_count":1,"failed_step_count":0,"blocked_step_count":0,` +
				`"prompt_tokens":0,"completion_tokens":0,"total_usd":0,"unpriced_tokens":0},` +
				`{"type":"TOOL_CALL","model":null,"tool_name":"search","step_count":1,"failed_step_count":0,"blocked_step_count":1,` +
				`"prompt_tokens":0,"completion_tokens":0,"total_usd":0,"unpriced_tokens":0}],` +
				`"other":null,"first_denied_step_id":"{denied}","first_failed_step_id":null,"most_expensive_step_id":null}`,
		},
		{
			method: "GET", path: "/v1/runs/{run}/neighbours", as: "token", status: http.StatusOK,
			want: `{"newer_run_id":null,"older_run_id":"{ended}"}`,
		},
		{method: "GET", path: "/v1/runs/{run}/steps/{step}", as: "key", status: http.StatusOK, want: openStep},
	}
}

func timelineRefusals() []apiCase {
	const unprocessable = http.StatusUnprocessableEntity
	get := func(name, path string, status int, want string) apiCase {
		return apiCase{name: name, method: "GET", path: path, as: "key", status: status, want: want}
	}
	tooMany := problem("value_error", `["query","steps"]`,
		"Value error, send at most 100 ids of steps, with commas between them", `"7"`, "")
	var cases []apiCase
	for _, part := range []string{"outline", "lines?steps=" + unknownID, "breakdown", "neighbours"} {
		cases = append(cases,
			get("unknown", "/v1/runs/"+unknownID+"/"+part, http.StatusNotFound, runMissing),
			get("no id", "/v1/runs/7/"+part, unprocessable, problems(badUUID("run_id"))))
	}
	return append(cases,
		get("no cursor", "/v1/runs/{run}/outline?cursor=AAAA", unprocessable, problems(badCursor("cursor"))),
		get("no step", "/v1/runs/{run}/lines?steps=7", unprocessable, problems(tooMany)),
		get("unknown", "/v1/runs/{run}/steps/"+unknownID, http.StatusNotFound, stepMissing),
		get("in another run", "/v1/runs/{ended}/steps/{step}", http.StatusNotFound, stepMissing),
		get("both ids", "/v1/runs/7/steps/7", unprocessable, problems(badUUID("run_id"), badUUID("step_id"))))
}
