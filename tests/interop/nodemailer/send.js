// Reads {transport, messages, inTurn} as JSON, sends the messages, writes what came of each as JSON.
"use strict";

const fs = require("node:fs");
const nodemailer = require("nodemailer");

async function outcome(transporter, message) {
  try {
    const info = await transporter.sendMail(message);
    return { accepted: info.accepted, rejected: info.rejected, response: info.response };
  } catch (error) {
    return { code: error.code, responseCode: error.responseCode, response: error.response };
  }
}

async function main() {
  const job = JSON.parse(fs.readFileSync(0, "utf8"));
  const transporter = nodemailer.createTransport(job.transport);
  const outcomes = [];
  if (job.inTurn) {
    for (const message of job.messages) outcomes.push(await outcome(transporter, message));
  } else {
    outcomes.push(...(await Promise.all(job.messages.map((one) => outcome(transporter, one)))));
  }
  transporter.close();
  process.stdout.write(JSON.stringify(outcomes));
}

main();
