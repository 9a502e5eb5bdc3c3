// Whatever a guest calls its branches, files, processes and sessions, and says in messages: no page of the client shows
// it raw. Each text of each answer is replaced by each text of the corpus.
#include "tests/support/hostile_text.hpp"

#include <functional>

#include <gtest/gtest.h>

#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

const Style plain{};

struct Page {
  const char* name;
  std::function<std::string(const Json&)> render;
  const char* answer;
};
void PrintTo(const Page& page, std::ostream* out) {
  *out << page.name;
}

const Page pages[] = {
    {"status", [](const Json& json) { return render_status(json, plain, true); },
     R"({"name":"web","state":"failed","reason":"r","message":"m","frozen":"f",
     "egress":{"caps":[{"cap":"c","used":1,"limit":2,"seconds":3}],"decoys":[{"name":"d","file":"f"}]},"project":"/p","branch":"b","backend":"libvirt",
     "accelerator":"tcg","network":"filtered","workspace_mode":"virtiofs","ssh":{"host":"h","port":1,"user":"u"},
     "guest_agent":{"answers":false,"reason":"it said goodbye"},"agent":{"name":"claude","state":"waiting","since_seconds":3},
     "ports":[{"port":3000,"process":"node","url":"http://x","primary":true}],"warnings":["w"],
     "worktrees":[{"branch":"b","path":"/w","session":"s","pending_commits":1}],
     "sync":{"mode":"manual","state":"backing-off","last_result":"updated","last_error":"e","last_time":"t","next_time":"t","pending_commits":2}})"},
    {"list", [](const Json& json) { return render_list(json, plain, 0); },
     R"({"sandboxes":[{"name":"web","state":"running","frozen":"f","backend":"b","uptime_seconds":90,"project":"/p","pending_commits":2,
     "agent":{"name":"claude","state":"waiting","since_seconds":61}}],"broken":[{"name":"odd","error":"e"}]})"},
    {"ports", [](const Json& json) { return render_ports(json, plain, 0); },
     R"({"name":"web","ports":[{"port":3000,"process":"node","folder":"/w","url":"http://x","primary":true},{"port":8000,"process":"p","url":null}]})"},
    {"sync", [](const Json& json) { return render_sync(json, plain); },
     R"({"result":"gated","sandbox":"web","moved":false,"branch":"main","old_tip":"0123456789ab","new_tip":"fedcba987654","commits":2,
     "reason":"r","commands":["c"],"switched_from":"s","log":[{"id":"fedcba","subject":"x"}],"conflicts":["f"],"rescued":["r"],
     "refs":[{"name":"refs/agentvm/web/main","new":"fedcba","kept_as":"refs/agentvm/web/old"}],
     "rejected":[{"ref":"refs/heads/x","reason":"no"}],"gone":["g"],"gated":[{"path":"p","kind":"link","excerpt":"e"}],"gated_count":1,
     "pushed":{"branch":"b","old_tip":"1","new_tip":"2","commits":1,"done":false,"refusal":"no"},
     "apart":[{"branch":"a","standing":"missing"},{"branch":"v","standing":"diverged","conflicts":["x","y"]}]})"},
    {"artifacts", [](const Json& json) { return render_artifacts(json, plain); },
     R"({"result":"gated","destination":"/d","files":1,"links":1,"bytes":2,"unchanged":1,"reason":"r","commands":["c"],
     "gated":[{"path":"p","kind":"tracked"}],"left_out":[{"path":"q","reason":"why"}],"left_out_count":1})"},
    {"worktrees", [](const Json& json) { return render_worktrees(json, plain, 0); },
     R"({"name":"web","worktrees":[{"branch":"b","path":"/w","session":"s","pending_commits":1,"uncommitted_files":2,"agent":{"name":"n","state":"working"}}]})"},
    {"wip", [](const Json& json) { return render_wip(json, plain, 0); },
     R"({"wip":[{"sandbox":"web","name":"n","time":"t","branch":"b","base":"0123456789abcdef","ref":"r","kind":"timer","files_changed":1}]})"},
    {"wip_patch", [](const Json& json) { return render_wip_patch(json, plain); },
     R"({"name":"n","sandbox":"web","time":"t","branch":"b","base":"0123456789abcdef","ref":"refs/agentvm/web/wip/n"})"},
    {"wip_apply", [](const Json& json) { return render_wip_apply(json, plain); },
     R"({"result":"conflict","ref":"r","files":["f"],"conflicts":["c"],"reason":"r","commands":["c"],"gated":[{"path":"p","kind":"k","excerpt":"e"}],"gated_count":1})"},
    {"egress_log", [](const Json& json) { return render_egress_log(json, plain, 0); },
     R"({"rows":[{"time":"t","count":1,"verdict":"denied","host":"h","port":1,"reason":"r","rule":"u","sandbox":"web","method":"GET","path":"/p"}]})"},
    {"egress_event", [](const Json& json) { return render_egress_event(json, plain); },
     R"({"time":"t","verdict":"denied","host":"h","port":1,"reason":"r","rule":"u","sandbox":"web"})"},
    {"doctor", [](const Json& json) { return render_doctor(json, plain); },
     R"({"checks":[{"id":"i","status":"warn","summary":"s","detail":"d","hint":"h"}]})"},
};

class GuestTextOnPages : public testing::TestWithParam<Page> {};

TEST_P(GuestTextOnPages, IsCleaned) {
  const auto& page = GetParam();
  const auto answer = Json::parse(page.answer);
  EXPECT_EQ(test::harm_in(page.render(answer)), "");
  int shown = 0;
  const auto flat = answer.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (!value.is_string()) continue;
    auto changed = answer;
    changed[Json::json_pointer(pointer)] = "MARKER";
    if (page.render(changed).find("MARKER") != std::string::npos) ++shown;
    for (const auto& text : test::hostile_texts()) {
      changed[Json::json_pointer(pointer)] = text;
      EXPECT_EQ(test::harm_in(page.render(changed)), "")
          << pointer << " " << testing::PrintToString(text.substr(0, 60));
    }
  }
  EXPECT_GT(shown, 0) << "the answer is not one that this page reads";
  RecordProperty("texts_shown", shown);
}

INSTANTIATE_TEST_SUITE_P(Render, GuestTextOnPages, testing::ValuesIn(pages),
                         [](const auto& page) { return std::string(page.param.name); });

}  // namespace
}  // namespace agentvm::cli
