// An SMSC of another make: prints its port, and then, line by line, what it took and what was answered to it.
// It knows one account. A recipient that ends in 58 is throttled; to "call me" a person answers.
const smpp = require("smpp");

const say = (line) => console.log(JSON.stringify(line));
let count = 0;

function refusal({ system_id, password }) {
  if (system_id !== "acme") return smpp.ESME_RINVSYSID;
  return password === "secret" ? smpp.ESME_ROK : smpp.ESME_RINVPASWD;
}

function bring(session, to, from, fields) {
  const pdu = { source_addr: from, source_addr_ton: 1, source_addr_npi: 1, destination_addr: to, ...fields };
  session.deliver_sm(pdu, (answer) => say({ answered: answer.command_status }));
}

function receipt(id) {
  if (count % 2) return { esm_class: 4, short_message: "", receipted_message_id: id, message_state: 2 };
  const text = `id:${id} sub:001 dlvrd:000 submit date:2611230300 done date:2611230301 stat:UNDELIV err:011 text:`;
  return { esm_class: 4, short_message: text };
}

function take(session, pdu) {
  const { message, udh } = pdu.short_message;
  say({ from: pdu.source_addr, to: pdu.destination_addr, text: message, header: udh ? Buffer.concat([udh].flat()).toString("hex") : "" });
  if (pdu.destination_addr.endsWith("58")) {
    session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
    return;
  }
  const id = `node-${++count}`;
  session.send(pdu.response({ message_id: id }));
  bring(session, pdu.source_addr, pdu.destination_addr, receipt(id));
  if (message === "call me") bring(session, pdu.source_addr, pdu.destination_addr, { short_message: "停 STOP" });
}

const server = smpp.createServer((session) => {
  session.on("error", () => session.destroy());
  session.on("bind_transceiver", (pdu) => session.send(pdu.response({ command_status: refusal(pdu), system_id: "NODE" })));
  session.on("submit_sm", (pdu) => take(session, pdu));
  session.on("enquire_link", (pdu) => session.send(pdu.response()));
  session.on("unbind", (pdu) => {
    say({ unbound: true });
    session.send(pdu.response());
    session.close();
  });
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
