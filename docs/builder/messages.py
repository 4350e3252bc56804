"""stub"""
def messages_page(): return "# Messages of errors\n\nStub.\n"
