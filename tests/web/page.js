// SPDX-License-Identifier: Apache-2.0
// Uses the page of mezzd as a person would: reads what it shows, types, presses buttons.
//
//   node page.js URL TOKEN
//
// Says "mezzd?" when mezzd is to be ended and started again, and waits for a line. Ends with 0
// if the page did what it must, else with 1 and what was wrong. The page and its script are the
// real ones, from a real mezzd; jsdom stands for the browser, and fetch and streams are Node's.
"use strict";

const assert = require("assert");
const readline = require("readline");
const {JSDOM, VirtualConsole} = require("jsdom");

const [, , URL_OF_MEZZD, TOKEN] = process.argv;
const MIB = 1048576;
const PATIENCE_MS = 20000;

let window, answer = true;
const asked = [];

async function load() {
	const log = new VirtualConsole();
	log.on("jsdomError", e => {
		throw e;
	});
	const dom = await JSDOM.fromURL(URL_OF_MEZZD, {
		runScripts: "dangerously", virtualConsole: log,
		beforeParse(w) {
			w.fetch = (path, init) => fetch(new URL(path, URL_OF_MEZZD), init);
			w.TextDecoderStream = TextDecoderStream;
			w.confirm = text => {
				asked.push(text);
				return answer;
			};
		}});
	window = dom.window;
}

const byId = id => window.document.getElementById(id);
const error = () => byId("error").textContent;

async function until(condition, what) {
	const end = Date.now() + PATIENCE_MS;
	while (!condition()) {
		if (Date.now() > end)
			throw new Error(`the page does not show: ${what}; error "${error()}"; page:\n` +
				byId("vms").textContent + byId("events").textContent);
		await new Promise(wake => setTimeout(wake, 20));
	}
}

function type(input, value) {
	if (input.type === "checkbox")
		input.checked = value;
	else
		input.value = value;
	input.dispatchEvent(new window.Event("input", {bubbles: true}));
}

// As pressing the button of a form does: not sent unless the fields are as they must be.
function submit(form) {
	const button = form.querySelector("button");
	assert(button && !button.disabled);
	button.click();
}

function card(name) {
	return [...byId("vms").children].find(e => e.querySelector("b").textContent === name);
}

function button(name, text) {
	return [...card(name).querySelectorAll(".title button")].find(b => b.textContent === text);
}

function press(name, text) {
	const b = button(name, text);
	assert(!b.disabled, `${text} of ${name} is disabled`);
	b.click();
}

const stateOf = name => card(name).querySelector(".badge").textContent;
const field = (name, key) => card(name).querySelector(`input[name=${key}]`);
const legend = name => card(name).querySelector(".legend").textContent;

async function api(method, path, body) {
	const reply = await fetch(new URL(path, URL_OF_MEZZD), {method,
		headers: {Authorization: "Bearer " + TOKEN},
		body: body === undefined ? undefined : JSON.stringify(body)});
	const json = await reply.json();
	assert(reply.ok, JSON.stringify(json));
	return json;
}

const tests = {
	async "a token is asked for, and a wrong one is refused"() {
		await until(() => !byId("login").hidden, "the token's form");
		assert.strictEqual(error(), "");
		type(byId("token"), "not-the-token");
		submit(byId("login"));
		await until(() => error() !== "", "that the token is wrong");
		assert(!byId("login").hidden);
		type(byId("token"), TOKEN);
		submit(byId("login"));
		await until(() => byId("live").textContent === "live", "live");
		assert(byId("login").hidden);
		assert.strictEqual(error(), "");
	},

	async "machine memory adds up, and its words are explained"() {
		const widths = [...byId("hostbar").querySelectorAll("i")]
			.map(e => parseFloat(e.style.width));
		assert.strictEqual(widths.length, 6);
		assert(Math.abs(widths.reduce((a, b) => a + b) - 100) < 0.01, widths);
		const words = [...byId("words").querySelectorAll("dt")].map(e => e.textContent);
		for (const span of byId("hostlegend").children)
			assert(words.some(w => span.textContent.startsWith(w)) && span.title,
				span.textContent);
	},

	async "a VM is created, and a second one of that name refused"() {
		type(byId("newname"), "-bad-");
		submit(byId("create"));
		type(byId("newname"), "w1");
		type(byId("newsize"), "64");
		type(byId("newgroup"), "web");
		type(byId("newargs"), "--active 2000 --seed '5'");
		submit(byId("create"));
		await until(() => card("w1"), "w1");
		assert.strictEqual(stateOf("w1"), "off");
		assert.strictEqual(byId("vms").children.length, 1);
		assert.strictEqual(byId("newname").value, "");
		const {config} = await api("GET", "/v1/vms/w1");
		assert.strictEqual(config.memorySize, 64 * MIB);
		assert.strictEqual(config.shareGroup, "web");
		assert.deepStrictEqual(config.args, ["--active", "2000", "--seed", "5"]);
		type(byId("newname"), "w1");
		submit(byId("create"));
		await until(() => /already/.test(error()), "that there is one already");
	},

	async "it starts, and its pages add up"() {
		assert(button("w1", "shut down").disabled && button("w1", "end").disabled);
		press("w1", "start");
		await until(() => stateOf("w1") === "running", "w1 running");
		assert(button("w1", "start").disabled && button("w1", "remove").disabled);
		await until(() => /private [1-9]/.test(legend("w1")), "private pages of w1");
		const widths = [...card("w1").querySelectorAll(".bar i")]
			.map(e => parseFloat(e.style.width));
		assert(Math.abs(widths.reduce((a, b) => a + b) - 100) < 0.01, widths);
		assert(/^w1 /.test(byId("payerslegend").textContent));
		assert.strictEqual(error(), "");
	},

	async "limit, reservation and shares are changed while it runs"() {
		const form = card("w1").querySelector("form"), level = form.querySelector("select");
		assert.strictEqual(field("w1", "limit").value, "");
		assert(field("w1", "shares").disabled);
		level.value = "custom";
		type(field("w1", "limit"), "48");
		assert(!field("w1", "shares").disabled);
		type(field("w1", "reservation"), "16.5");
		type(field("w1", "shares"), "777");
		submit(form);
		await until(() => /limit 48MiB/.test(byId("events").textContent), "the event");
		/* The answer to the page may come after the event. */
		await until(() => form.querySelector("button[type=button]").hidden, "that it is done");
		const {memoryAllocation: a} = (await api("GET", "/v1/vms/w1")).config;
		assert.deepStrictEqual([a.limit, a.reservation, a.shares],
			[48 * MIB, 16.5 * MIB, {level: "custom", shares: 777}]);
	},

	async "what makes no sense is refused, in whose words it may be"() {
		const form = card("w1").querySelector("form");
		type(field("w1", "limit"), "lots");
		submit(form);
		await until(() => /are numbers/.test(error()), "that it is no number");
		type(field("w1", "limit"), "8");
		submit(form);
		await until(() => /larger than limit/.test(error()), "what contradicts");
		type(field("w1", "limit"), "32");
		submit(form);
		await until(() => error() === "", "no error");
		assert.strictEqual((await api("GET", "/v1/vms/w1")).config.memoryAllocation.limit,
			32 * MIB);
	},

	async "what others change is shown, but not under one's fingers"() {
		await api("PATCH", "/v1/vms/w1", {memoryAllocation: {limit: 40 * MIB}});
		await until(() => field("w1", "limit").value === "40", "the limit of somebody else");
		type(field("w1", "reservation"), "2");
		await api("PATCH", "/v1/vms/w1", {memoryAllocation: {limit: 44 * MIB}});
		await until(() => /limit 44MiB/.test(byId("events").textContent), "the other's change");
		await new Promise(wake => setTimeout(wake, 1500));
		assert.strictEqual(field("w1", "reservation").value, "2");
		assert.strictEqual(field("w1", "limit").value, "40");
		submit(card("w1").querySelector("form"));
		await until(() => /changed meanwhile/.test(error()), "that it was changed meanwhile");
		card("w1").querySelector("form button[type=button]").click();
		assert.strictEqual(error(), "");
		assert.strictEqual(field("w1", "limit").value, "44");
		type(field("w1", "limit"), "");
		submit(card("w1").querySelector("form"));
		await until(() => /limit unlimited/.test(byId("events").textContent), "no limit");
	},

	async "pools are a table"() {
		assert(byId("poolsection").hidden);
		await api("PUT", "/v1/pools/lab", {memoryAllocation: {reservation: 8 * MIB, limit: 32 * MIB}});
		await until(() => !byId("poolsection").hidden, "the pools");
		assert(/lab8\.0 MiB.*MiB32\.0 MiB/.test(byId("pools").textContent), byId("pools").textContent);
		assert(/the host.*unlimited/.test(byId("pools").textContent), byId("pools").textContent);
		await api("DELETE", "/v1/pools/lab");
	},

	async "it goes on with the next mezzd"() {
		const reader = readline.createInterface({input: process.stdin});
		/* Before it is asked for: the answer may come while the page still notices. */
		const answered = new Promise(done => reader.once("line", done));
		console.log("mezzd?");
		await until(() => byId("live").textContent === "not connected", "that mezzd is gone");
		assert.notStrictEqual(error(), "");
		await answered;
		reader.close();
		await until(() => byId("live").textContent === "live", "live again");
		await until(() => stateOf("w1") === "running" && error() === "", "w1 again");
	},

	async "it is ended and removed, if one means it"() {
		answer = false;
		press("w1", "end");
		assert(/End w1/.test(asked.pop()));
		answer = true;
		press("w1", "end");
		await until(() => stateOf("w1") === "off", "w1 off");
		assert(card("w1").querySelector(".bar").hidden && byId("payers").hidden);
		press("w1", "remove");
		await until(() => !card("w1"), "w1 gone");
		assert(/Remove w1/.test(asked.pop()));
		type(byId("newname"), "w2");
		type(byId("newstart"), true);
		submit(byId("create"));
		await until(() => card("w2") && stateOf("w2") === "running", "w2 running at once");
	},
};

async function main() {
	await load();
	for (const [name, test] of Object.entries(tests)) {
		try {
			await test();
		} catch (e) {
			console.log(`FAILED: ${name}: ${e.stack}`);
			process.exit(1);
		}
		console.log(`ok: ${name}`);
	}
	process.exit(0);
}

main();
