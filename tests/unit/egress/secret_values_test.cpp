#include "proxy/egress/secret_values.hpp"

#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::Not;
using Kind = SecretValues::State::Kind;

class HandClock : public Clock {
 public:
  SteadyTime steady() override { return now; }
  std::int64_t unix_seconds() override { return 1000; }
  void sleep(milliseconds) override {}
  SteadyTime now{std::chrono::hours(1)};
};

struct Answer {
  std::string value, problem;
};

class SecretValuesTest : public testing::Test {
 protected:
  Answer get(const std::string& name) {
    auto promise = std::make_shared<std::promise<Answer>>();
    auto future = promise->get_future();
    values.get(name, [promise](const std::shared_ptr<const SecretText>& value, const std::string& problem) {
      promise->set_value({value ? value->text() : "", problem});
    });
    EXPECT_EQ(future.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    return future.get();
  }
  HandClock clock;
  std::atomic<int> reads = 0;
  std::atomic<bool> works = true;
  SecretValues values{{{"KEY", "file:/key"}, {"OTHER", "env:OTHER"}},
                      [this](const std::string& from) -> std::string {
                        const int count = ++reads;
                        if (!works) throw Error(ErrorCode::operation_failed, "it is empty");
                        return from + " " + std::to_string(count);
                      },
                      clock};
};

TEST_F(SecretValuesTest, AreReadWhenFirstAskedForAndAgainAfterAMinute) {
  EXPECT_EQ(reads, 0);
  EXPECT_EQ(values.states().at("KEY").kind, Kind::not_asked);
  EXPECT_EQ(get("KEY").value, "file:/key 1");
  clock.now += milliseconds(59'999);
  EXPECT_EQ(get("KEY").value, "file:/key 1");
  clock.now += milliseconds(1);
  EXPECT_EQ(get("KEY").value, "file:/key 2");
  EXPECT_EQ(get("OTHER").value, "env:OTHER 3");
  EXPECT_EQ(values.states().at("KEY").kind, Kind::ok);
  EXPECT_EQ(values.states().at("KEY").last_use, 1000);
  EXPECT_EQ(get("NONE").problem, "there is no such secret");
}

/// An old value is not used on: whoever takes the source away means it.
TEST_F(SecretValuesTest, AFailureIsSaidAndTriedAgainSoon) {
  EXPECT_EQ(get("KEY").value, "file:/key 1");
  works = false;
  clock.now += SecretValues::fresh;
  EXPECT_EQ(get("KEY").problem, "it is empty");
  EXPECT_EQ(values.states().at("KEY").kind, Kind::failed);
  EXPECT_EQ(values.states().at("KEY").problem, "it is empty");
  EXPECT_EQ(get("KEY").value, "");
  EXPECT_EQ(reads, 2);
  works = true;
  clock.now += SecretValues::retry;
  EXPECT_EQ(get("KEY").value, "file:/key 3");
  EXPECT_EQ(values.states().at("KEY").problem, "");
}

TEST(SecretValuesThreads, WhoAsksMeanwhileSharesTheReadAndNobodyIsCalledAfterTheEnd) {
  std::promise<void> go;
  auto gone = go.get_future().share();
  std::atomic<int> reads = 0, answers = 0;
  auto values = std::make_unique<SecretValues>(
      std::vector<SecretSource>{{"KEY", "env:KEY"}},
      [&reads, gone](const std::string&) {
        ++reads;
        gone.wait();
        return std::string("value");
      },
      system_clock());
  for (int i = 0; i < 5; ++i) values->get("KEY", [&answers](const auto&, const std::string&) { ++answers; });
  while (reads == 0) std::this_thread::yield();
  values.reset();
  go.set_value();
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(reads, 1);
  EXPECT_EQ(answers, 0);
}

class ReadSecretTest : public testing::Test {
 protected:
  std::string read(const std::string& from) {
    return read_secret(from, {{"KEY", "of the client"}, {"LINES", "a\nb"}}, folder.path().string());
  }
  std::string problem(const std::string& from) {
    const auto error = test::error_of([&] { read(from); });
    return error && error->code() == ErrorCode::operation_failed ? error->message() : "none";
  }
  test::TemporaryFolder folder;
};

TEST_F(ReadSecretTest, FromVariablesFilesAndCommands) {
  ::setenv("AGENTVM_TEST_SECRET", "of this process", 1);
  EXPECT_EQ(read("env:KEY"), "of the client");
  EXPECT_EQ(read("env:AGENTVM_TEST_SECRET"), "of this process");
  write_file_atomic(folder / "key", "in a file\r\n\n");
  EXPECT_EQ(read("file:" + (folder / "key").string()), "in a file");
  EXPECT_EQ(read("file:~/key"), "in a file");
  EXPECT_EQ(read("command:cat key | tr i I"), "In a fIle");  // in that folder, by a shell
}

TEST_F(ReadSecretTest, WhatIsWrongIsSaidWithoutAnyOfIt) {
  ::mkfifo((folder / "pipe").c_str(), 0600);
  write_file_atomic(folder / "large", std::string(65 * 1024, 'x'));
  write_file_atomic(folder / "long", std::string(17 * 1024, 'x'));
  write_file_atomic(folder / "empty", "\n");
  write_file_atomic(folder / "control", "hunter2\x1b[31m");
  EXPECT_THAT(problem("env:AGENTVM_UNSET"), HasSubstr("the variable AGENTVM_UNSET was not set where"));
  EXPECT_THAT(problem("env:LINES"), HasSubstr("control characters"));
  EXPECT_THAT(problem("file:~/none"), HasSubstr("No such file"));
  EXPECT_THAT(problem("file:~/pipe"), HasSubstr("no regular file"));
  EXPECT_THAT(problem("file:~/large"), HasSubstr("larger than 64 KiB"));
  EXPECT_THAT(problem("file:~/long"), HasSubstr("longer than 16 KiB"));
  EXPECT_THAT(problem("file:~/empty"), HasSubstr("it is empty"));
  EXPECT_THAT(problem("file:~/control"), HasSubstr("control characters"));
  EXPECT_THAT(problem("command:exit 3"), HasSubstr("its command ended with exit status 3"));
  EXPECT_THAT(problem("command:true"), HasSubstr("it is empty"));
  for (const char* from : {"file:~/control", "command:echo hunter2; echo hunter2 >&2; exit 1", "command:cat control"})
    EXPECT_THAT(problem(from), Not(HasSubstr("hunter2"))) << from;
}

}  // namespace
}  // namespace agentvm::egress
