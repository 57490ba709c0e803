package demo

// trade is a kind of agent: what it is asked, and how it goes about it.
type trade struct {
	agent    string
	weight   int
	tasks    []string // with %s for a subject
	subjects []string
	moves    []move // in this order; the last model call answers
	answers  []string
}

// move is a call that a kind of agent makes: to a tool or to a model.
type move struct {
	tool  string // or
	model string
	asks  string // what goes in
	says  string // what comes out, of a tool
	times int    // at the most; 0 is once, for sure
	size  int64  // prompt tokens, roughly
}

// trades are the made-up agents: what they do, how often, and with which models and tools.
func trades() []trade {
	return []trade{
		{
			agent: "support-triage", weight: 9,
			tasks:    []string{"Answer ticket %s: charged twice in November", "Answer ticket %s: cannot sign in after the update", "Answer ticket %s: wants to change the delivery address", "Answer ticket %s: export stops at 10,000 rows"},
			subjects: []string{"#48210", "#48233", "#48291", "#48310", "#48377", "#48402", "#48419", "#48466"},
			moves: []move{
				{model: "gpt-4o-mini", asks: "Which team should answer this ticket?", size: 600},
				{tool: "search_knowledge_base", asks: "billing, duplicate charge", says: "3 articles found", times: 2},
				{tool: "get_customer", asks: "customer of the ticket", says: "plan: team, since: 2024-03-11, open invoices: 1"},
				{model: "gpt-4o", asks: "Write a reply in our tone of voice.", size: 2400},
				{tool: "send_reply", asks: "reply as drafted", says: "sent"},
			},
			answers: []string{"Thank you for writing to us. I have refunded the second charge; it will show on your statement within five days.", "Sorry for the trouble. The update signed everybody out; your password still works."},
		},
		{
			agent: "research", weight: 4,
			tasks:    []string{"Compare the three largest suppliers of %s", "What changed in the rules for %s this year?", "Find prices of %s in Germany and Poland"},
			subjects: []string{"solid-state batteries", "heat pumps", "industrial 3D printers", "recycled aluminium", "grid storage"},
			moves: []move{
				{model: "claude-sonnet-4", asks: "Plan the research.", size: 900},
				{tool: "web_search", asks: "suppliers, market share, 2026", says: "10 results", times: 4},
				{tool: "fetch_page", asks: "https://example.com/report", says: "12,400 characters", times: 3},
				{model: "claude-sonnet-4", asks: "Summarise what is relevant, with sources.", times: 3, size: 7200},
				{model: "claude-sonnet-4", asks: "Write the report.", size: 6100},
			},
			answers: []string{"Two suppliers hold 61 % of the market. The third grew fastest, by 38 % in a year, from a plant in Gdańsk.", "The deadline moved from March to September. Fees are unchanged."},
		},
		{
			agent: "code-review", weight: 5,
			tasks:    []string{"Review pull request %s: retry on 503", "Review pull request %s: move the job queue to PostgreSQL", "Review pull request %s: new date picker"},
			subjects: []string{"#312", "#318", "#325", "#331", "#340", "#352"},
			moves: []move{
				{tool: "read_diff", asks: "changed files", says: "14 files, +412 −97"},
				{model: "claude-sonnet-4", asks: "Find bugs in this change.", times: 2, size: 5200},
				{tool: "run_tests", asks: "go test ./...", says: "ok, 318 tests in 21 s"},
				{model: "claude-3-5-haiku", asks: "Word the comments kindly and briefly.", size: 1500},
				{tool: "post_review", asks: "comments as drafted", says: "2 comments posted"},
			},
			answers: []string{"The retry has no upper bound: after an outage all clients would come back in the same second. Add jitter.", "Looks good. One test asserts the wrong value and passes by luck."},
		},
		{
			agent: "invoice-extraction", weight: 7,
			tasks:    []string{"Extract the line items of invoice %s", "Match invoice %s with its purchase order"},
			subjects: []string{"INV-20931", "INV-20944", "INV-20958", "INV-20977", "INV-21002", "INV-21013"},
			moves: []move{
				{tool: "ocr", asks: "page 1 of 2", says: "318 words", times: 2},
				{model: "gemini-2.5-flash", asks: "Return the line items as JSON.", times: 2, size: 3100},
				{tool: "check_totals", asks: "sum of the lines against the total", says: "equal"},
			},
			answers: []string{`{"lines": 7, "net": "1,204.50", "vat": "228.86", "currency": "EUR"}`},
		},
		{
			agent: "data-analyst", weight: 3,
			tasks:    []string{"Why did sign-ups fall in %s?", "Which customers are likely to leave in %s?", "Forecast support load for %s"},
			subjects: []string{"week 44", "week 45", "week 46", "October", "the last quarter"},
			moves: []move{
				{model: "gpt-4o", asks: "Write the SQL.", times: 2, size: 1900},
				{tool: "run_sql", asks: "SELECT week, count(*) FROM signups GROUP BY week", says: "26 rows", times: 3},
				{model: "gpt-4o", asks: "Explain the figures to a manager.", size: 3300},
			},
			answers: []string{"Sign-ups fell by 14 %, all of it in the trial from the pricing page; the form was broken on Safari from Tuesday to Thursday."},
		},
		{
			agent: "meeting-notes", weight: 4,
			tasks:    []string{"Summarise the call with %s", "List what we promised %s"},
			subjects: []string{"Northwind", "Contoso", "Fabrikam", "Tailspin Toys", "Wide World Importers"},
			moves: []move{
				{tool: "transcribe", asks: "recording, 42 min", says: "6,210 words"},
				{model: "text-embedding-3-small", asks: "index the transcript", size: 6900},
				{model: "meta-llama/llama-3.3-70b-instruct", asks: "Who promised what, until when?", times: 2, size: 5600},
			},
			answers: []string{"They want single sign-on before they sign. Maria sends the security paper by Friday."},
		},
	}
}

// users are those for whom the agents run, the busiest first.
func users() []string {
	return []string{
		"northwind/maria.kowalska", "contoso/j.tanaka", "cust-1042", "fabrikam/lee", "cust-0977", "northwind/tomas", "ops@tailspin.example",
		"cust-1310", "contoso/amara", "wideworld/zoé", "cust-1188", "fabrikam/olu", "cust-0412", "internal/finance", "internal/growth", "cust-1501",
		"northwind/jan", "cust-0033", "tailspin/ines", "cust-1622", "wideworld/søren", "cust-0871", "contoso/李雷", "cust-1733", "internal/platform",
		"cust-0650", "fabrikam/noor", "cust-1290", "northwind/eva", "cust-1404", "tailspin/pavel", "cust-0218", "cust-1855", "wideworld/ana",
		"cust-0764", "contoso/mehmet", "cust-1911", "cust-0509", "internal/demo-bot", "cust-1977",
	}
}

// block is a user whom somebody blocked, so many days ago.
type block struct {
	user, reason string
	daysAgo      int
}

// blocks are the users that were blocked, and how many days ago.
func blocks() []block {
	return []block{
		{"cust-1310", "Runaway loop: 300 calls in ten minutes", 9},
		{"fabrikam/olu", "Left the company", 6},
		{"cust-0412", "Chargeback, see ticket #48119", 2},
	}
}
