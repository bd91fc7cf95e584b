// Before: smtp-server.
const { SMTPServer } = require("smtp-server");

const server = new SMTPServer({
  size: 25 * 1024 * 1024,
  authOptional: true,
  hideSTARTTLS: true, // for trying it without a certificate
  onAuth(auth, session, callback) {
    if (auth.username !== "ann" || auth.password !== "secret") {
      return callback(new Error("Authentication credentials invalid"));
    }
    callback(null, { user: auth.username });
  },
  onRcptTo(address, session, callback) {
    if (!address.address.endsWith("@example.com")) {
      const error = new Error("relaying denied");
      error.responseCode = 550;
      return callback(error);
    }
    callback();
  },
  onData(stream, session, callback) {
    let size = 0;
    stream.on("data", (chunk) => (size += chunk.length));
    stream.on("end", () => {
      if (stream.sizeExceeded) {
        const error = new Error("Message exceeds the maximum size");
        error.responseCode = 552;
        return callback(error);
      }
      console.log(`${size} bytes of ${session.user}`);
      callback(null, "queued");
    });
  },
});

server.on("connect", (data) => console.log(`connect from ${data.remoteAddress}`));
server.on("error", (error) => console.log(error.code, error.message));
server.listen(2525, "127.0.0.1");
process.on("SIGTERM", () => server.close());
