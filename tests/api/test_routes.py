#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every route, with answers and errors checked against the description that mezzd gives of itself."""

import json
import re
import threading
import time
import unittest

import jsonschema

import daemon
from daemon import MIB

METHODS = ("get", "put", "post", "patch", "delete")


class Described(unittest.TestCase):
    """A mezzd, and a record of which routes were tried with success."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemon.Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()
        cls.api = cls.daemon.get("/openapi.json").json
        cls.seen = set()

    def operation(self, method, path):
        """The description of what a request asks for: (pattern, operation)."""
        path = path.split("?")[0]
        for pattern, operations in self.api["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
                return pattern, operations.get(method.lower())
        raise AssertionError(f"{path} is not described")

    def valid(self, value, schema):
        """A value fits a schema of the description."""
        resolver = jsonschema.RefResolver("", self.api)
        jsonschema.Draft4Validator(schema, resolver=resolver).validate(value)

    def ask(self, method, path, body=None, status=None, **kwargs):
        """A request whose answer is as described."""
        answer = self.daemon.ask(method, path, body, **kwargs)
        pattern, operation = self.operation(method, path)
        self.assertIsNotNone(operation, f"{method} {path}")
        described = operation["responses"]
        good = str(answer.status) in described
        reply = described[str(answer.status) if good else "default"]["content"]
        self.assertIn(answer.type, reply, (method, path, answer.body))
        if answer.json is not None:
            self.valid(answer.json, reply[answer.type]["schema"])
        if not good:
            self.assertEqual(answer.status, answer.json["status"])
            self.assertGreater(len(answer.json["message"]), 8)
        if status:
            self.assertEqual(status, answer.status, answer.body)
        if good:
            self.seen.add((method.lower(), pattern))
        return answer


class Routes(Described):
    """The life of VMs, pools and options."""

    def test_description(self):
        """The description is one of OpenAPI 3, and its references lead somewhere."""
        self.assertTrue(self.api["openapi"].startswith("3.0"))
        for pattern, operations in self.api["paths"].items():
            for method, operation in operations.items():
                self.assertIn(method, METHODS)
                self.assertTrue(operation["summary"])
                names = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
                self.assertEqual(set(re.findall(r"\{(\w+)\}", pattern)), names)
        schemas = self.api["components"]["schemas"]
        for schema in schemas.values():
            jsonschema.Draft4Validator.check_schema(schema)
        for name in re.findall(r"#/components/schemas/(\w+)", str(self.api)):
            self.assertIn(name, schemas)

    def test_all(self):
        """Each route once with success; nothing is described that was not tried."""
        ask = self.ask
        page = ask("GET", "/")
        self.assertIn(page.status, (200, 404))
        self.seen.add(("get", "/"))
        ask("GET", "/openapi.json", status=200)
        ask("GET", "/v1/host", status=200)
        ask("PUT", "/v1/pools/ci", {"memoryAllocation": {"reservation": 8 * MIB}}, 200)
        ask("PUT", "/v1/pools/inner", {"parent": "ci"}, 200)
        vm = ask("POST", "/v1/vms", {
            "name": "a", "memorySize": 64 * MIB, "resourcePool": "inner", "shareGroup": "g",
            "memoryAllocation": {"reservation": 4 * MIB, "limit": -1, "shares": {"level": "high"}},
            "args": ["--active", "2000", "--common", "50"]}, 201).json
        self.assertEqual("poweredOff", vm["runtime"]["powerState"])
        self.assertEqual(20 * 64, vm["config"]["memoryAllocation"]["shares"]["shares"])
        vm = ask("POST", "/v1/vms/a/start", status=200).json
        self.assertEqual("poweredOn", vm["runtime"]["powerState"])
        self.assertEqual(("none", "none"), (vm["runtime"]["engine"], vm["runtime"]["mmu"]))
        ask("POST", "/v1/vms", {"name": "b", "memorySize": 32 * MIB, "shareGroup": "g",
                                "args": ["--active", "2000", "--common", "50"]}, 201)
        ask("POST", "/v1/vms/b/start", status=200)
        vms = ask("GET", "/v1/vms", status=200).json["vms"]
        self.assertEqual("a b", " ".join(v["config"]["name"] for v in vms))
        ask("GET", "/v1/vms/a", status=200)
        self.assertEqual(16384, sum(run["count"] for run in
                                    ask("GET", "/v1/vms/a/map", status=200).json["runs"]))
        part = ask("GET", "/v1/vms/a/map?first=10&count=7", status=200).json
        self.assertEqual((10, 7), (part["first"], part["count"]))
        ask("GET", "/v1/pools", status=200)
        ask("GET", "/v1/snapshot", status=200)
        ask("GET", "/v1/audit", status=200)
        ask("GET", "/v1/options", status=200)
        ask("PUT", "/v1/options/Mem.IdleTax", {"value": "50"}, 200)
        ask("GET", "/metrics", status=200)
        self.events()
        ask("PATCH", "/v1/vms/b", {"memoryAllocation": {"limit": 16 * MIB}}, 200)
        ask("POST", "/v1/vms/b/stop", {"how": "vm", "waitMs": 9000}, 200)
        ask("POST", "/v1/vms/a/stop", {"how": "kill", "waitMs": 9000}, 200)
        for name in ("a", "b"):
            ask("DELETE", f"/v1/vms/{name}", status=200)
        for name in ("inner", "ci"):
            ask("DELETE", f"/v1/pools/{name}", status=200)
        ask("PUT", "/v1/options/Mem.IdleTax", {"value": "75"}, 200)
        described = {(method, pattern) for pattern, operations in self.api["paths"].items()
                     for method in operations}
        self.assertEqual(set(), described - self.seen)

    def events(self):
        """The first lines of a stream: what was, then snapshots; each as its schema says."""
        con = self.daemon.connection()
        self.addCleanup(con.close)
        con.request("GET", "/v1/events?since=0&snapshots=250")
        response = con.getresponse()
        self.assertEqual("text/event-stream", response.headers.get_content_type())
        kinds, kind = set(), None
        schemas = {"event": "Event", "snapshot": "Snapshot"}
        while kinds != set(schemas):
            line = response.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                self.valid(json.loads(line[6:]),
                           {"$ref": "#/components/schemas/" + schemas[kind]})
                kinds.add(kind)
        self.seen.add(("get", "/v1/events"))

    def test_errors(self):
        """What is refused, with which status, and that the message names what was wrong."""
        vm = {"name": "x", "memorySize": 64 * MIB}
        cases = [
            ("GET", "/v1/vms/nobody", None, 404, "nobody"),
            ("POST", "/v1/vms/nobody/start", None, 404, "nobody"),
            ("POST", "/v1/vms/nobody/stop", {}, 404, "nobody"),
            ("GET", "/v1/vms/nobody/map", None, 409, "does not run"),
            ("DELETE", "/v1/vms/nobody", None, 404, "nobody"),
            ("DELETE", "/v1/pools/nobody", None, 404, "nobody"),
            ("POST", "/v1/vms", None, 400, "body"),
            ("POST", "/v1/vms", b"{", 400, "line 1"),
            ("POST", "/v1/vms", b"[1]", 400, "not an object"),
            ("POST", "/v1/vms", b'{"name":"x","name":"y"}', 400, "duplicate"),
            ("POST", "/v1/vms", b"\xff\xfe", 400, "JSON"),
            ("POST", "/v1/vms", {"name": "x"}, 400, "memorySize"),
            ("POST", "/v1/vms", {**vm, "colour": "red"}, 400, "colour"),
            ("POST", "/v1/vms", {**vm, "memorySize": "64M"}, 400, "memorySize"),
            ("POST", "/v1/vms", {**vm, "memorySize": MIB}, 400, str(16 * MIB)),
            ("POST", "/v1/vms", {**vm, "memorySize": 64 * MIB + 1}, 400, "page size"),
            ("POST", "/v1/vms", {**vm, "memorySize": -1}, 400, "memorySize"),
            ("POST", "/v1/vms", {**vm, "name": "../x"}, 400, "../x"),
            ("POST", "/v1/vms", {**vm, "name": "x" * 48}, 400, "47"),
            ("POST", "/v1/vms", {**vm, "resourcePool": "none"}, 404, "none"),
            ("POST", "/v1/vms", {**vm, "memoryAllocation": {"reservation": 128 * MIB}}, 400,
             "128"),
            ("POST", "/v1/vms", {**vm, "memoryAllocation": {"limit": 1 * MIB,
                                                            "reservation": 2 * MIB}}, 400, "limit"),
            ("POST", "/v1/vms", {**vm, "memoryAllocation": {"shares": {"level": "most"}}}, 400,
             "level"),
            ("POST", "/v1/vms", {**vm, "args": ["--memory", "1G"]}, 400, "--memory"),
            ("POST", "/v1/vms", {**vm, "args": ["--link=/tmp"]}, 400, "--link"),
            ("POST", "/v1/vms", {**vm, "args": ["x"] * 65}, 400, "64"),
            ("PUT", "/v1/options/Mem.IdleTaxx", {"value": "1"}, 404, "Mem.IdleTax"),
            ("PUT", "/v1/options/Mem.IdleTax", {"value": "100"}, 400, "99"),
            ("PUT", "/v1/options/Mem.IdleTax", {"value": "much"}, 400, "much"),
            ("PUT", "/v1/options/Mem.TierNvmePct", {"value": "25"}, 400, "NVMe"),
            ("GET", "/v1/vms/x/map?first=-1", None, 400, "first"),
            ("GET", "/v1/vms/x/map?colour=1", None, 400, "colour"),
            ("GET", "/v1/events?snapshots=99999999999", None, 400, "snapshots"),
            ("GET", "/v1/host?x=1", None, 400, "x"),
        ]
        for method, path, body, status, word in cases:
            with self.subTest(method=method, path=path, body=body):
                answer = self.ask(method, path, body)
                self.assertEqual(status, answer.status, answer.body)
                self.assertIn(word, answer.json["message"])
        self.assertEqual([], self.daemon.get("/v1/vms").json["vms"])

    def test_unknown(self):
        """Paths that there are not, and methods that a path does not have."""
        answer = self.daemon.ask("GET", "/v2/host")
        self.assertEqual((404, 404), (answer.status, answer.json["status"]))
        answer = self.daemon.ask("DELETE", "/v1/host")
        self.assertEqual((405, "GET"), (answer.status, answer.headers["Allow"]))
        self.valid(answer.json, {"$ref": "#/components/schemas/Error"})

    def test_short(self):
        """What does not fit is refused with the numbers, and leaves no trace."""
        self.daemon.create("big", 256 * MIB, memoryAllocation={"reservation": 200 * MIB})
        answer = self.ask("POST", "/v1/vms/big/start", status=507)
        self.assertRegex(answer.json["message"], r"\d+.*MiB.*\d+.*MiB")
        self.ask("PUT", "/v1/pools/huge", {"memoryAllocation": {"reservation": 500 * MIB}}, 507)
        self.assertNotIn("huge", str(self.ask("GET", "/v1/pools").json))
        self.ask("DELETE", "/v1/vms/big", status=200)

    def test_pool_loops(self):
        """A pool cannot be put below itself, near or far."""
        for name, parent in (("p1", ""), ("p2", "p1"), ("p3", "p2")):
            self.ask("PUT", f"/v1/pools/{name}", {"parent": parent}, 200)
        for name, parent in (("p1", "p1"), ("p1", "p3"), ("p2", "p3")):
            answer = self.ask("PUT", f"/v1/pools/{name}", {"parent": parent}, 400)
            self.assertIn("p", answer.json["message"])
        self.ask("DELETE", "/v1/pools/p1", status=409)
        for name in ("p3", "p2", "p1"):
            self.ask("DELETE", f"/v1/pools/{name}", status=200)

    def test_running(self):
        """What may be changed while a VM runs is in force at once, and the rest is pending."""
        self.daemon.create("r", start=True)
        self.addCleanup(self.ask, "DELETE", "/v1/vms/r")
        self.addCleanup(self.ask, "POST", "/v1/vms/r/stop", {"how": "kill", "waitMs": 9000})
        self.ask("POST", "/v1/vms/r/start", status=409)
        self.ask("DELETE", "/v1/vms/r", status=409)
        vm = self.ask("PATCH", "/v1/vms/r", {"memoryAllocation": {
            "shares": {"level": "custom", "shares": 77}, "reservation": 8 * MIB}}, 200).json
        self.assertEqual(77, vm["quickStats"]["shares"])
        self.assertFalse(vm["runtime"]["changePending"])
        vm = self.ask("PATCH", "/v1/vms/r", {"memorySize": 32 * MIB}, 200).json
        self.assertTrue(vm["runtime"]["changePending"])
        answer = self.ask("PATCH", "/v1/vms/r", {"memoryAllocation": {"reservation": 33 * MIB}},
                          400)
        self.assertIn("33", answer.json["message"])
        self.ask("PATCH", "/v1/vms/r", {"name": "s"}, 400)
        self.ask("GET", "/v1/vms/r/map?first=0&count=99999999", status=400)

    def test_optimistic_lock(self):
        """Two who change the same version: the second is told."""
        version = self.daemon.create("v").json["config"]["changeVersion"]
        self.ask("PATCH", "/v1/vms/v", {"autostart": True, "changeVersion": version}, 200)
        answer = self.ask("PATCH", "/v1/vms/v", {"autostart": False, "changeVersion": version}, 409)
        self.assertIn(str(version + 1), answer.json["message"])
        self.assertTrue(self.ask("GET", "/v1/vms/v").json["config"]["autostart"])
        self.ask("PATCH", "/v1/vms/v", {"autostart": False}, 200)
        self.ask("DELETE", "/v1/vms/v", status=200)

    def test_stop(self):
        """A guest that does not listen to its power button: after the time, or with force."""
        self.daemon.create("s", start=True)
        self.ask("POST", "/v1/vms/s/stop", {"how": "guest", "waitMs": 200}, 504)
        self.ask("POST", "/v1/vms/s/stop", {"how": "sideways"}, 400)
        vm = self.ask("POST", "/v1/vms/s/stop", {"waitMs": 200, "force": True}, 200).json
        self.assertEqual("poweredOff", vm["runtime"]["powerState"])
        self.ask("POST", "/v1/vms/s/stop", {}, 409)
        self.ask("DELETE", "/v1/vms/s", status=200)

    def test_options(self):
        """ESXi's names, defaults and ranges, where they apply."""
        expected = {
            "Mem.AllocGuestLargePage": ("1", 0, 1), "Mem.BalancePeriod": ("15", 1, 120),
            "Mem.CtlMaxPercent": ("65", 0, 99), "Mem.IdleTax": ("75", 0, 99),
            "Mem.MemMinFreePct": ("0", 0, 50), "Mem.MemZipEnable": ("1", 0, 1),
            "Mem.MemZipMaxAllocPct": ("50", 5, 100), "Mem.MemZipMaxPct": ("10", 5, 100),
            "Mem.SampleActivePctMin": ("1", 0, 10), "Mem.SamplePeriod": ("60", 0, 180),
            "Mem.ShareForceSalting": ("2", 0, 2), "Mem.ShareRateMax": ("1024", 0, 32768),
            "Mem.ShareScanGHz": ("4", 0, 32), "Mem.ShareScanTime": ("60", 10, 600),
            "Mem.ShareSkipMax": ("8", 0, 8), "Mem.SweepEnable": ("1", 0, 1),
        }
        options = {o["name"]: o for o in self.ask("GET", "/v1/options").json["options"]}
        for name, (default, low, high) in expected.items():
            self.assertEqual((default, low, high),
                             (options[name]["default"], options[name]["min"],
                              options[name]["max"]), name)
        self.assertEqual("unlimited", options["Mem.VMOverheadGrowthLimit"]["default"])
        self.ask("PUT", "/v1/options/mem.idletax", {"value": "10"}, 200)
        self.assertIn({"Mem.IdleTax": "10"}, [{o["name"]: o["value"]} for o in
                                              self.ask("GET", "/v1/options").json["options"]])
        self.ask("PUT", "/v1/options/Mem.IdleTax", {"value": "75"}, 200)

    def test_sums(self):
        """The books: a VM's pages are its size, the host's are machine memory."""
        before = self.ask("GET", "/v1/host").json["overcommit1Min"]
        self.daemon.create("wide", 512 * MIB, start=True)
        self.daemon.create("n", start=True, args=["--active", "4000", "--common", "30"])
        for _ in range(5):
            time.sleep(0.1)
            snapshot = self.ask("GET", "/v1/snapshot", status=200).json
            host = snapshot["host"]
            parts = ("consumed", "sharedCommon", "zipped", "pageTables", "overhead", "free")
            self.assertEqual(host["managed"] + host["over"], sum(host[p] for p in parts))
            for vm in snapshot["vms"]:
                stats = vm["quickStats"]
                if not vm["runtime"]["pid"]:
                    continue
                parts = ("private", "shared", "zero", "ballooned", "compressed", "swapped")
                self.assertEqual(vm["config"]["memorySize"], sum(stats[p] for p in parts))
        # 576 MiB on 128 MiB: the averages rise towards 3.5, the shorter one faster.
        time.sleep(2.5)
        host = self.ask("GET", "/v1/host").json
        self.assertGreater(host["overcommit"], 3)
        self.assertGreater(host["overcommit1Min"], before)
        self.assertGreater(host["overcommit1Min"], host["overcommit15Min"])
        for name in ("n", "wide"):
            self.ask("POST", f"/v1/vms/{name}/stop", {"how": "kill", "waitMs": 9000}, 200)
            self.ask("DELETE", f"/v1/vms/{name}", status=200)

    def test_keep_alive(self):
        """Many requests on one connection, errors among them."""
        con = self.daemon.connection()
        for i in range(50):
            path = "/v1/host" if i % 2 else "/v1/vms/nobody"
            self.assertEqual(200 if i % 2 else 404,
                             self.daemon.ask("GET", path, connection=con).status)
        con.close()


SAMPLE = re.compile(r'([a-z_][a-z0-9_]*)(?:\{([a-z_]+)="([^"\\]*)"\})? (\S+)')


class Metrics(Described):
    """The exposition format of Prometheus, version 0.0.4."""

    def test_format(self):
        """HELP and TYPE before samples, one family in one piece, no sample twice."""
        self.daemon.create("m1", start=True)
        self.daemon.create("m2")
        answer = self.ask("GET", "/metrics", status=200)
        self.assertIn("version=0.0.4", answer.headers["Content-Type"])
        text = answer.body.decode()
        self.assertTrue(text.endswith("\n"))
        types, closed, samples, current = {}, set(), set(), None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                closed.add(current)
                current = line.split()[2]
                self.assertNotIn(current, closed, "a family in two pieces")
            elif line.startswith("# TYPE "):
                self.assertEqual(current, line.split()[2])
                types[current] = line.split()[3]
            else:
                found = SAMPLE.fullmatch(line)
                self.assertTrue(found, line)
                self.assertEqual(current, found[1])
                self.assertNotIn(found[0].rsplit(" ", 1)[0], samples)
                samples.add(found[0].rsplit(" ", 1)[0])
                float(found[4])
        for name, kind in types.items():
            self.assertEqual("counter" if name.endswith("_total") else "gauge", kind, name)
            # Rules of `promtool check metrics`: base units, and suffixes of histograms are theirs.
            self.assertNotRegex(name, "(_count|_sum|_bucket|_info)$")
            self.assertNotRegex(name, "_(ms|ns|us|milliseconds|mib|kib|pages|percent)(_|$)")
        self.assertIn("mezz_host_vms", types)
        self.assertIn("mezz_host_uptime_seconds", types)
        self.assertIn("mezz_host_free_bytes", samples)
        self.assertIn('mezz_vm_consumed_bytes{vm="m1"}', samples)
        self.assertIn('mezz_vm_swap_in_total{vm="m2"}', samples)
        self.ask("POST", "/v1/vms/m1/stop", {"how": "kill", "waitMs": 9000}, 200)


class Concurrent(Described):
    """Changes from many at once."""

    def test_changes(self):
        """Each change is whole, and the last one is what is stored."""
        self.daemon.create("c", start=True)
        failed = []

        def change(n):
            for i in range(20):
                answer = self.daemon.ask("PATCH", "/v1/vms/c", {"memoryAllocation": {
                    "shares": {"level": "custom", "shares": 1000 * n + i}}})
                if answer.status != 200:
                    failed.append(answer.body)

        threads = [threading.Thread(target=change, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], failed)
        vm = self.ask("GET", "/v1/vms/c", status=200).json
        self.assertEqual(161, vm["config"]["changeVersion"])
        self.assertEqual(vm["quickStats"]["shares"],
                         vm["config"]["memoryAllocation"]["shares"]["shares"])
        self.assertEqual(19, vm["quickStats"]["shares"] % 1000)
        self.ask("POST", "/v1/vms/c/stop", {"how": "kill", "waitMs": 9000}, 200)


if __name__ == "__main__":
    unittest.main()
